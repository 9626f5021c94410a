/**
 * The mark at the end of a field: the brand's name, or a drawing of where to look on a card.
 *
 * Neutral shapes made by DOM calls: a brand's own art is its trademark. What never may live here:
 * markup as text, which the page's policy forbids.
 */

const SVG = "http://www.w3.org/2000/svg";

type Attributes = Readonly<Record<string, string>>;

function shape(name: string, attributes: Attributes): SVGElement {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const OUTLINE: Attributes = {
  x: "1",
  y: "1",
  width: "30",
  height: "20",
  rx: "3.5",
  fill: "none",
  stroke: "currentColor",
  "stroke-width": "1.5",
};
const STRIPE: Attributes = { x: "1", y: "5.5", width: "30", height: "4", fill: "currentColor" };
const CHIP: Attributes = { x: "5", y: "7", width: "6", height: "5", rx: "1", fill: "currentColor" };
const LINE: Attributes = { x: "5", y: "15", width: "15", height: "1.5", fill: "currentColor" };
const DOTS_BACK: readonly (readonly [number, number])[] = [
  [19, 14.5],
  [22.5, 14.5],
  [26, 14.5],
];
const DOTS_FRONT: readonly (readonly [number, number])[] = [
  [16.5, 6],
  [20, 6],
  [23.5, 6],
  [27, 6],
];

function drawing(shapes: readonly SVGElement[]): SVGElement {
  const svg = shape("svg", { viewBox: "0 0 32 22", width: "32", height: "22" });
  svg.setAttribute("aria-hidden", "true");
  svg.append(...shapes);
  return svg;
}

function dot([cx, cy]: readonly [number, number]): SVGElement {
  const place = { cx: String(cx), cy: String(cy), r: "1.3" };
  return shape("circle", { ...place, fill: "currentColor", class: "mark" });
}

/** A card from the front. */
export function frontDrawing(): SVGElement {
  return drawing([shape("rect", OUTLINE), shape("rect", CHIP), shape("rect", LINE)]);
}

/** Where the code is: three digits on the back, or four on the front. */
export function codeDrawing(digits: number): SVGElement {
  const isFront = digits === DOTS_FRONT.length;
  const dots = (isFront ? DOTS_FRONT : DOTS_BACK).map(dot);
  return drawing([shape("rect", OUTLINE), shape("rect", isFront ? LINE : STRIPE), ...dots]);
}

const SPELLED: Readonly<Record<string, string>> = {
  amex: "Amex",
  cartes_bancaires: "CB",
  diners: "Diners",
  forbrugsforeningen: "FBF",
  jcb: "JCB",
  lankapay: "LankaPay",
  napas: "NAPAS",
  rupay: "RuPay",
  t_union: "T-Union",
  uatp: "UATP",
  ukrcard: "UkrCard",
  unionpay: "UnionPay",
  uzcard: "UzCard",
};

/** Writes a brand's name for people. */
export function brandName(brand: string): string {
  return SPELLED[brand] ?? brand.charAt(0).toUpperCase() + brand.slice(1).replace(/_/g, " ");
}

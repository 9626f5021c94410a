/**
 * The fields of one form: their frames, what is known of each part, the page's handlers and calls.
 *
 * What lives here: the story from `mount` to `unmount`. What never may: a value that was typed; the
 * frames read each other's, and this page is not asked to carry them. There is no listener for the
 * page's going away, which would keep it out of the browser's back/forward cache: what a set holds
 * outside of itself is its frames and one listener for messages, and `unmount` takes back both.
 */

import { Calls } from "./calls.js";
import { PanwardError, notReady, usage } from "./errors.js";
import { Frame, drawHex } from "./frame.js";
import { isToken } from "./incoming.js";
import type { Answer, Say } from "./calls.js";
import type { Deployment, Listener } from "./frame.js";
import type { Change, FieldName, Look, MaskedCard, Part, ToPage } from "./messages.js";
import type { Fields, FieldsEvents, FieldsOptions, Place } from "./panward.js";

type Places = Readonly<Record<Part, Place>>;
type Handler<E extends keyof FieldsEvents> = (detail: FieldsEvents[E]) => void;
type Handlers = { readonly [E in keyof FieldsEvents]: Set<Handler<E>> };

const SEPARATE: readonly Part[] = ["number", "expiry", "cvc"];
const SCHEMES: readonly unknown[] = ["light", "dark", "auto"];
const LOOK_CHARACTERS_MAX = 200; // as the frame's reader has it
const UNMOUNTED = "The card fields are not mounted.";

/** A frame takes a look whole or not at all: better that the page's author hears of it. */
function mustFit(_name: string, value: unknown): unknown {
  const fits =
    value === undefined ||
    typeof value === "boolean" ||
    (typeof value === "object" && value !== null) ||
    (typeof value === "string" && value.length <= LOOK_CHARACTERS_MAX);
  if (!fits) throw usage("fields: a look is made of texts of at most 200 characters.");
  return value;
}

/** A copy of what is a look's, so that neither later changes nor other members reach a frame. */
function lookOf(options: Look): Look {
  const { locale, scheme, styles, labels, placeholders, disabled } = options;
  if (scheme !== undefined && !SCHEMES.includes(scheme)) {
    throw usage('fields: `scheme` can be "light", "dark" or "auto".');
  }
  const look = { locale, scheme, styles, labels, placeholders, disabled };
  return JSON.parse(JSON.stringify(look, mustFit)) as Look;
}

function elementAt(place: Place): Element {
  const element = typeof place === "string" ? document.querySelector(place) : place;
  if (element?.nodeType !== Node.ELEMENT_NODE) throw usage("mount: there is no such element.");
  return element;
}

function isPlace(target: Place | Places): target is Place {
  return typeof target === "string" || "nodeType" in target;
}

/** The scheme in use where the fields will be: a light page stays light at night. */
function schemeAt(element: Element): NonNullable<Look["scheme"]> {
  const schemes = getComputedStyle(element).colorScheme;
  if (!schemes.includes("dark")) return "light";
  return schemes.includes("light") ? "auto" : "dark";
}

export class FieldSet implements Fields, Listener {
  private frames: readonly Frame[] = [];
  private look: Look;
  private wornScheme: NonNullable<Look["scheme"]> = "light";
  private tokenizing: Promise<MaskedCard> | undefined;
  private readonly attaching = new Map<string, Promise<void>>();
  private readonly calls = new Calls();
  private readonly changes = new Map<Part, Change>();
  private readonly handlers: Handlers = {
    ready: new Set(),
    change: new Set(),
    focus: new Set(),
    blur: new Set(),
    submit: new Set(),
    failure: new Set(),
  };
  private readonly listen = (event: MessageEvent<unknown>): void => {
    this.frames.some((frame) => frame.receive(event));
  };

  constructor(
    private readonly deployment: Deployment,
    private readonly options: FieldsOptions,
    private readonly timeoutMilliseconds: number,
  ) {
    this.look = lookOf(options);
  }

  // --- placing ----------------------------------------------------------------------------

  mount(target: Place | Places): this {
    if (this.frames.length > 0) throw usage("mount: these fields are mounted already.");
    const places = this.placesOf(target);
    const group = drawHex();
    this.frames = places.map(([field]) => new Frame(field, group, this.deployment, this));
    this.wornScheme = schemeAt(places[0]![1]);
    addEventListener("message", this.listen);
    this.frames.forEach((frame, index) => {
      frame.wear(this.worn());
      frame.placeIn(places[index]![1]);
    });
    return this;
  }

  private placesOf(target: Place | Places): readonly (readonly [FieldName, Element])[] {
    const { only, layout } = this.options;
    if (typeof target !== "string" && (typeof target !== "object" || target === null)) {
      throw usage("mount: takes a selector, an element, or one for each part.");
    }
    if (isPlace(target)) {
      const element = elementAt(target);
      if (only === "cvc") return [["cvc", element]];
      return layout === "separate" ? SEPARATE.map((part) => [part, element]) : [["card", element]];
    }
    if (only === "cvc" || layout === "combined") throw usage("mount: takes one element here.");
    return SEPARATE.map((part) => [part, elementAt(target[part])]);
  }

  unmount(): void {
    removeEventListener("message", this.listen);
    for (const frame of this.frames) frame.remove();
    this.frames = [];
    this.changes.clear();
    this.calls.endAll(notReady(UNMOUNTED));
  }

  private worn(): Look {
    return { ...this.look, scheme: this.look.scheme ?? this.wornScheme };
  }

  update(look: Look): void {
    this.look = { ...this.look, ...lookOf(look) };
    for (const frame of this.frames) {
      frame.wear(this.worn());
      frame.send({ type: "update", ...this.worn() });
    }
  }

  // --- calls ------------------------------------------------------------------------------

  tokenize(): Promise<MaskedCard> {
    this.tokenizing ??= this.askForToken().finally(() => (this.tokenizing = undefined));
    return this.tokenizing;
  }

  private async askForToken(): Promise<MaskedCard> {
    if (this.options.only === "cvc") throw usage("tokenize: a code alone makes no token.");
    const answer = await this.ask("result", (id, milliseconds) => ({
      type: "tokenize",
      id,
      milliseconds,
    }));
    return (answer as Extract<Answer, { type: "result" }>).card;
  }

  attachCvc(token: string): Promise<void> {
    const same = this.attaching.get(token);
    if (same) return same;
    const made = this.askToAttach(token).finally(() => this.attaching.delete(token));
    this.attaching.set(token, made);
    return made;
  }

  private async askToAttach(token: string): Promise<void> {
    if (this.options.only !== "cvc") throw usage('attachCvc: is for fields of `only: "cvc"`.');
    if (!isToken(token)) throw usage("attachCvc: takes the token of a stored card.");
    await this.ask("done", (id, milliseconds) => ({ type: "attach_cvc", id, token, milliseconds }));
  }

  /** The frame that gathers the others' values: the only one, or the number's, which is first. */
  private collector(): Frame {
    const [first] = this.frames;
    if (!first || !this.frames.every((frame) => frame.element.isConnected)) {
      throw notReady(UNMOUNTED);
    }
    const failed = this.frames.find((frame) => frame.failed)?.failed;
    if (failed) throw failed;
    return first;
  }

  private ask(kind: Answer["type"], say: Say): Promise<Answer> {
    const answer = this.calls.make(this.collector(), kind, this.timeoutMilliseconds, say);
    if (this.allReady()) this.calls.sendWaiting();
    return answer;
  }

  focus(part?: Part): void {
    const frame = part ? this.frames.find((each) => each.parts.includes(part)) : this.frames[0];
    frame?.element.focus();
    frame?.send({ type: "focus", ...(part ? { part } : {}) });
  }

  clear(): void {
    for (const frame of this.frames) frame.send({ type: "clear" });
  }

  // --- what is known ----------------------------------------------------------------------

  get complete(): boolean {
    const parts = this.frames.flatMap((frame) => frame.parts);
    return this.allReady() && parts.every((part) => this.changes.get(part)?.complete);
  }

  get brand(): string {
    return this.changes.get("number")?.brand ?? "unknown";
  }

  private allReady(): boolean {
    return this.frames.length > 0 && this.frames.every((frame) => frame.ready);
  }

  // --- what frames say --------------------------------------------------------------------

  heard(frame: Frame, message: ToPage): void {
    switch (message.type) {
      case "loaded":
        this.started(frame);
        break;
      case "ready":
        if (!this.allReady()) break;
        this.calls.sendWaiting();
        this.emit("ready", undefined);
        break;
      case "change":
        this.changed(message);
        break;
      case "focus":
      case "blur":
        this.emit(message.type, { field: message.field });
        break;
      case "submit":
        this.emit("submit", undefined);
        break;
      case "result":
      case "done":
        this.calls.answered(frame, message);
        break;
      case "failure":
        this.calls.refused(frame, message.id, new PanwardError(message.error));
        break;
    }
  }

  /** A frame's script runs, for the first time or anew: it knows nothing of what was before. */
  private started(frame: Frame): void {
    this.calls.forgotten(frame, notReady("A card field was loaded anew."));
    frame.init(this.worn());
    for (const field of frame.parts) {
      const before = this.changes.get(field);
      if (before) this.changed({ field, brand: "unknown", empty: true, complete: false });
    }
  }

  private changed(change: Change): void {
    const { field, complete: fieldComplete, empty, error, message } = change;
    this.changes.set(field, change);
    const { complete, brand } = this;
    this.emit("change", {
      field,
      fieldComplete,
      empty,
      ...(error === undefined ? {} : { error }),
      ...(message === undefined ? {} : { message }),
      complete,
      brand,
    });
  }

  lost(frame: Frame, error: PanwardError): void {
    const first = !this.frames.some((other) => other !== frame && other.failed);
    this.calls.endAll(error);
    if (first) this.emit("failure", error);
  }

  on<E extends keyof FieldsEvents>(event: E, handler: Handler<E>): () => void {
    if (!Object.prototype.hasOwnProperty.call(this.handlers, event)) {
      throw usage(`on: there is no event of this name.`);
    }
    const handlers = this.handlers[event];
    handlers.add(handler);
    return () => void handlers.delete(handler);
  }

  /** A handler that throws is the page's mistake: the page hears of it, the others run. */
  private emit<E extends keyof FieldsEvents>(event: E, detail: FieldsEvents[E]): void {
    for (const handler of [...this.handlers[event]]) {
      try {
        handler(detail);
      } catch (error) {
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}

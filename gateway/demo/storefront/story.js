/**
 * "What just happened": the values of one purchase, as the shop's server and the ledger gave them.
 *
 * Text is set as text and never as markup: what a processor says is nobody's HTML.
 */

const euros = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" });

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A text with the token in it set apart. */
function marked(text, token) {
  const parts = text.split(token);
  return parts.flatMap((part, place) => (place === 0 ? [part] : [make("mark", {}, token), part]));
}

function facts(pairs) {
  const list = make("dl", { class: "facts" });
  for (const [name, value] of pairs) list.append(make("dt", {}, name), make("dd", {}, ...[value].flat()));
  return list;
}

function table(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell))));
  const whole = make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
  // It may be wider than a phone: then it scrolls by itself, also by keyboard.
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole);
}

function step(title, words, ...content) {
  return make("li", {}, make("div", { class: "step-body" }, make("h3", {}, title), make("p", {}, words), ...content));
}

function copyButton(text) {
  const button = make("button", { type: "button", class: "copy-command" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
  return button;
}

/* --- at once ------------------------------------------------------------------------------ */

function got(made) {
  const { card } = made;
  const expires = `${String(card.exp_month).padStart(2, "0")}/${card.exp_year}`;
  return step(
    "What the shop got",
    "The fields handed this page a token and a masked card. Neither the page nor its server has more.",
    facts([
      ["Card", `${card.brand} •••• ${card.last4}, ${expires}`],
      ["Token", make("mark", {}, card.id)],
    ]),
  );
}

function sent(made) {
  const calls = made.sent.map(({ method, path, fields }) => {
    const lines = Object.entries(fields).map(([name, value]) => `\n    ${name} = ${value}`);
    return make("pre", { tabindex: "0", "aria-label": `Sent: ${path}` }, ...marked(`${method} ${path}${lines.join("")}`, made.card.id));
  });
  return step(
    "What the shop’s server sent to Stripe’s API",
    "Stripe’s own SDK, unchanged, with the token where the number would be.",
    ...calls,
  );
}

function received(made) {
  const lines = made.received.map(({ method, path, cards }) =>
    [`${method} ${path}`, ...Object.entries(cards).map(([name, value]) => `    ${name} = ${value}`)].join("\n"),
  );
  return step(
    "What the processor received",
    lines.length === 0
      ? "Nothing: it was not called."
      : "The number itself, put in place by the gateway on its way out. The processor shows it masked, so that is all there is to see here.",
    ...(lines.length === 0 ? [] : [make("pre", { tabindex: "0", "aria-label": "Received" }, lines.join("\n"))]),
  );
}

function authorizations(made) {
  return step(
    "What the gateway has on record",
    "One authorization a call; the shop may ask for them at any time.",
    table(
      "Authorizations",
      ["Authorization", "Kind", "State", "Result", "Amount"],
      made.authorizations.map((one) => [
        make("code", {}, one.id),
        one.kind,
        one.state,
        [one.result, one.decline_code].filter(Boolean).join(", ") || "none yet",
        one.amount === null ? "" : euros.format(one.amount / 100),
      ]),
    ),
  );
}

/** What came later, by the processor's own account: nothing, for a payment that was answered. */
function reported(made) {
  const events = made.authorizations.flatMap((one) => one.events.map((event) => [one, event]));
  if (events.length === 0) return [];
  return [
    step(
      "What the processor reported later",
      "Its answer was lost, so nobody knew whether it had charged. It called back; the gateway proved who it was, settled the payment, and told the shop once, signed for Stripe’s own SDK.",
      facts(
        events.flatMap(([one, { callback, type, effect }]) => [
          ["Callback", callback],
          ["Reports", `${type}: ${effect}`],
          ["So", `${one.id} is ${one.state}, ${one.result}`],
        ]),
      ),
    ),
  ];
}

/** Show the purchase, and give the step that waits for a checkpoint to cover it. */
export function tell(made) {
  const last = step("What the ledger can prove", "Waiting for the log’s next signed checkpoint …");
  const later = reported(made);
  const isLost = made.outcome === "waiting" || later.length > 0;
  const answer = isLost ? "and the bank’s answer was lost" : `${made.milliseconds} ms from the token to the bank’s answer`;
  document.getElementById("story-lead").textContent = `${made.order}, ${answer}. All values are this purchase’s own.`;
  document.getElementById("steps").replaceChildren(got(made), sent(made), received(made), authorizations(made), ...later, last);
  document.getElementById("story").hidden = false;
  return last;
}

/* --- once it is proven -------------------------------------------------------------------- */

export function tellProof(waiting, proof) {
  if (proof === undefined) {
    waiting.replaceWith(step("What the ledger can prove", "The proof did not come. The entries are there all the same: panward ledger verify tells."));
    return;
  }
  const rows = proof.entries.map((entry) => [
    String(entry.index),
    entry.says,
    make("code", {}, `${entry.leaf.slice(0, 16)}…`),
    make("span", { class: entry.proven ? "proven" : "unproven" }, entry.proven ? "✓ in the log" : "✗ not proven"),
  ]);
  const words = proof.good
    ? `Each entry leads to the root of the checkpoint of ${proof.size} entries, signed inside Vault. The shop checked that, and so can you:`
    : "Not every entry is proven: something is wrong with this log.";
  waiting.replaceWith(
    step(
      "What the ledger can prove",
      words,
      table("Ledger entries of this purchase", ["Index", "Entry", "Leaf hash", "Inclusion"], rows),
      make("pre", { tabindex: "0", "aria-label": "Commands" }, proof.commands),
      copyButton(proof.commands),
    ),
  );
}

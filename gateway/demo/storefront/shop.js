/**
 * The shop's page: an order, a card typed into the gateway's fields, a purchase.
 *
 * What lives here: everything but what is told afterwards (story.js). What never can: a card
 * number. The fields hand over a token and a masked card; the rest of this file makes do with that.
 */

import { tell, tellProof } from "/story.js";

const settings = JSON.parse(document.getElementById("settings").textContent);
const euros = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" });
const byId = (id) => document.getElementById(id);

const pay = byId("pay");
const places = { number: "#card-number", expiry: "#card-expiry", cvc: "#card-cvc" };

/* --- the order ---------------------------------------------------------------------------- */

let quantity = 1;

const isBusy = () => ["paying", "waiting", "paid"].includes(pay.dataset.state);

const total = () => euros.format((settings.price * quantity) / 100);

function order(wanted) {
  if (isBusy()) return;
  quantity = Math.min(Math.max(wanted, 1), settings.quantityMax);
  byId("quantity").textContent = String(quantity);
  byId("total").textContent = total();
  byId("less").setAttribute("aria-disabled", String(quantity === 1));
  byId("more").setAttribute("aria-disabled", String(quantity === settings.quantityMax));
  label(`Pay ${total()}`);
}

byId("less").addEventListener("click", () => order(quantity - 1));
byId("more").addEventListener("click", () => order(quantity + 1));

/* --- what the shopper is told ------------------------------------------------------------- */

function label(text) {
  byId("pay-label").textContent = text;
}

function become(state) {
  pay.dataset.state = state;
  pay.setAttribute("aria-disabled", String(isBusy()));
  if (state === "paying") label("Paying …");
  else if (state === "waiting") label("Waiting for the processor …");
  else if (state === "paid") label(`Paid ${total()}`);
  else label(`Pay ${total()}`);
}

function say(text, tone = "quiet") {
  const outcome = byId("outcome");
  outcome.textContent = text;
  outcome.dataset.tone = tone;
}

/* --- the fields --------------------------------------------------------------------------- */

const dark = matchMedia("(prefers-color-scheme: dark)");

/** In the shop's colors; a frame takes properties from a list, and no style sheet. */
function look() {
  const [ink, paper, edge, focus, bad, soft] = dark.matches
    ? ["#f1eada", "#12162b", "#7e86ad", "#9fb6ff", "#ffa99d", "#b3b7cf"]
    : ["#1c2547", "#f6f0e2", "#8a8a94", "#2f4fa3", "#a8271c", "#575e78"];
  return {
    locale: "en",
    scheme: dark.matches ? "dark" : "light",
    labels: { expiry: "Expires" },
    styles: {
      base: {
        color: ink,
        "background-color": paper,
        border: `1px solid ${edge}`,
        "border-radius": "6px",
        "font-size": "17px",
      },
      focus: { "border-color": focus, "box-shadow": `0 0 0 2px ${focus}` },
      invalid: { "border-color": bad },
      placeholder: { color: soft },
    },
  };
}

function mountFields() {
  const panward = window.Panward?.(settings.publishableKey, { gateway: settings.gateway });
  if (panward === undefined) {
    say("The card fields did not load: the gateway’s script is missing. Is its certificate accepted?", "bad");
    return undefined;
  }
  const fields = panward.fields({ layout: "separate", ...look() }).mount(places);
  fields.on("change", (change) => {
    pending = undefined;
    if (!isBusy()) become(change.complete ? "ready" : "typing");
  });
  fields.on("submit", () => byId("checkout").requestSubmit());
  fields.on("failure", (error) => say(error.message, "bad"));
  dark.addEventListener("change", () => fields.update(look()));
  return fields;
}

/* --- paying ------------------------------------------------------------------------------- */

const CALLS_MAX = 20;

/** What was sent and not answered: tried again under the same attempt, so it cannot pay twice. */
let pending;
const fields = mountFields();

async function card() {
  try {
    return await fields.tokenize();
  } catch (error) {
    say(error.message, "bad");
    if (error.field !== undefined) fields.focus(error.field);
    return undefined;
  }
}

async function purchase() {
  if (pending === undefined || pending.quantity !== quantity) {
    const masked = await card();
    if (masked === undefined) return undefined;
    pending = { attempt: crypto.randomUUID(), token: masked.id, quantity };
  }
  const answer = await fetch("/purchases", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(pending),
  });
  if (answer.status === 422) pending = undefined; // no such card: only a new token can help
  if (!answer.ok) throw new Error(`the shop answered ${answer.status}`);
  const made = await answer.json();
  if (made.outcome !== "failed") pending = undefined;
  return made;
}

async function checkOut() {
  if (fields === undefined || isBusy()) return;
  const before = pay.dataset.state;
  become("paying");
  say("One moment …");
  let made;
  try {
    made = await purchase();
  } catch {
    become("ready");
    say("We did not hear back. Press Pay again: the same purchase cannot be charged twice.", "bad");
    return;
  }
  if (made === undefined) {
    become(before);
    return;
  }
  if (made.outcome === "waiting") made = await reported(made);
  const paid = made.outcome === "paid";
  become(paid ? "paid" : made.outcome === "waiting" ? "waiting" : "ready");
  byId("again").hidden = !paid;
  say(made.message, paid ? "good" : made.outcome === "waiting" ? "quiet" : "bad");
  await show(made, paid);
}

/** Wait for the processor's report: each call ends when the shop has heard, or after a while. */
async function reported(made) {
  become("waiting");
  say(made.message);
  tell(made);
  for (let calls = 0; calls < CALLS_MAX && made.outcome === "waiting"; calls += 1) {
    try {
      const answer = await fetch(`/purchases/${made.order}/outcome`);
      if (!answer.ok) break;
      made = await answer.json();
    } catch {
      break; // the report will find the shop all the same
    }
  }
  return made;
}

async function show(made, paid) {
  const waiting = tell(made);
  if (paid) byId("story-title").focus();
  try {
    const answer = await fetch(`/purchases/${made.order}`);
    if (!answer.ok) throw new Error();
    tellProof(waiting, await answer.json());
  } catch {
    tellProof(waiting, undefined);
  }
}

byId("checkout").addEventListener("submit", (event) => {
  event.preventDefault();
  void checkOut();
});

byId("again").addEventListener("click", () => {
  byId("again").hidden = true;
  fields.clear();
  become("typing");
  order(1);
  say("");
  fields.focus("number");
});

/* --- cards to try, and the dare ----------------------------------------------------------- */

for (const test of settings.cards) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const digits = document.createElement("span");
  digits.className = "digits";
  digits.textContent = test.number;
  const brand = document.createElement("small");
  brand.textContent = test.name;
  const fate = document.createElement("small");
  fate.textContent = test.fate;
  fate.className = test.fate.replace(" ", "-");
  button.append(digits, brand, fate);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(test.number);
      fate.textContent = "copied";
      byId("copied").textContent = `${test.name} copied: paste it into the card number.`;
    } catch {
      getSelection().selectAllChildren(digits); // no clipboard here: Ctrl-C does it
    }
    setTimeout(() => (fate.textContent = test.fate), 1600);
  });
  item.append(button);
  byId("test-cards").append(item);
}

function attempt(what, read) {
  try {
    return `> ${what}\n${String(read())}`;
  } catch (error) {
    return `> ${what}\n${error.name}: ${error.message}`;
  }
}

byId("dare").addEventListener("click", () => {
  const frame = document.querySelector("#card-number iframe");
  byId("refusal").hidden = false;
  byId("refusal").textContent =
    frame === null
      ? "There is no field to read: it did not load."
      : [
          attempt("frame.contentDocument", () => frame.contentDocument),
          attempt("frame.contentWindow.document.body.innerHTML", () => frame.contentWindow.document.body.innerHTML),
          attempt("frame.contentWindow.panwardField", () => frame.contentWindow.panwardField),
        ].join("\n\n");
});

order(1);
become("typing");

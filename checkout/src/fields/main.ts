/**
 * The frame's entry: from the page that the gateway wrote to a field that works.
 *
 * Here live the wiring, the messages sent, and what each message received does. What never may:
 * a rule about cards, and a digit in a message.
 */

import { type FieldName, type Look, PROTOCOL, type Part, type ToFrame, type ToPage } from "../messages.js";
import { type Setting, attachCvc, tokenize } from "./collector.js";
import { Failed } from "./failed.js";
import { type Page, believed } from "./frame.js";
import { Lazy } from "./lazy.js";
import { applyLook, dress, spoken } from "./look.js";
import { type PartListener, PartView } from "./part.js";
import { type PanwardField, peersOf } from "./peers.js";

const HEX = /^[0-9a-f]{32}$/;
const PARTS: Readonly<Record<FieldName, readonly Part[]>> = {
  card: ["number", "expiry", "cvc"],
  number: ["number"],
  expiry: ["expiry"],
  cvc: ["cvc"],
};

function meta(name: string): string {
  return document.querySelector<HTMLMetaElement>(`meta[name="panward-${name}"]`)?.content ?? "";
}

class Field implements PartListener {
  private readonly views: readonly PartView[];
  private readonly own: PanwardField;
  private readonly lazy = new Lazy(meta("sealing"));
  private readonly keyId = new URLSearchParams(location.search).get("key") ?? "";
  private look: Look = {};
  private key: string | undefined; // set by the first `init`, and by no other
  private verifyKey: string | undefined;
  private height = -1;
  private readonly told = new Map<Part, string>();

  constructor(
    private readonly field: FieldName,
    private readonly page: Page,
    group: string,
  ) {
    const { words } = spoken(undefined);
    this.views = PARTS[field].map((part) => new PartView(part, words, this));
    this.own = this.asPeer(group);
    window.panwardField = this.own;
    this.place();
    this.listen();
    this.tell({ type: "loaded" });
  }

  private asPeer(group: string): PanwardField {
    return Object.freeze<PanwardField>({
      group,
      keyId: this.keyId,
      origin: this.page.origin,
      parts: this.views.map((view) => view.part),
      read: (part) => this.view(part)?.read() ?? "",
      blame: (part, reason) => {
        const view = this.view(part);
        view?.blame(reason);
        if (view) this.changed(view);
      },
      message: (part) => this.view(part)?.errorMessage() ?? "",
      codeLengths: () => this.view("number")?.lengthsOfCode,
      codeLengthsAre: (lengths) => {
        const view = this.view("cvc");
        if (view?.codeLengthsAre(lengths)) this.changed(view);
      },
    });
  }

  private view(part: Part): PartView | undefined {
    return this.views.find((view) => view.part === part);
  }

  private place(): void {
    const parts = document.createElement("div");
    parts.className = "parts";
    if (this.field === "card") parts.setAttribute("role", "group");
    parts.append(...this.views.map((view) => view.element));
    document.getElementById("field")?.append(parts);
    applyLook(this.look, this.views);
  }

  private listen(): void {
    window.addEventListener("message", (event) => {
      const message = believed(event, this.page);
      if (message) void this.act(message);
    });
    window.addEventListener("pagehide", () => this.clear());
    // What was said while the page was being put away was heard by nobody.
    window.addEventListener("pageshow", ({ persisted }) => persisted && this.tellAll());
    new ResizeObserver(() => this.tellHeight()).observe(document.body);
    if (document.readyState === "complete") this.warmWhenIdle();
    else window.addEventListener("load", () => this.warmWhenIdle());
  }

  /** Only the frame that will seal has the sealing script: the number's, or a lone code's. */
  private get seals(): boolean {
    const parts: readonly Part[] = this.own.parts;
    if (parts.includes("number")) return true;
    return parts.includes("cvc") && !peersOf(this.own).some((peer) => peer.parts.includes("number"));
  }

  private warmWhenIdle(): void {
    if (this.own.parts.includes("number")) this.lazy.warmWhenIdle();
  }

  private tell(message: ToPage): void {
    const enveloped = { ...message, panward: PROTOCOL, nonce: this.page.nonce };
    this.page.source.postMessage(enveloped, this.page.origin);
  }

  private tellHeight(): void {
    const pixels = Math.ceil(document.body.getBoundingClientRect().height);
    if (pixels === this.height) return;
    this.height = pixels;
    this.tell({ type: "height", pixels });
  }

  // --- what happens in the field ----------------------------------------------------------

  changed(view: PartView): void {
    dress(view, this.look.styles);
    this.tellChange(view);
    if (view.part !== "number") return;
    for (const peer of peersOf(this.own)) peer.codeLengthsAre(view.lengthsOfCode);
  }

  /** Only what is news: the page is not to see each key, nor the time between two of them. */
  private tellChange(view: PartView): void {
    const error = view.error();
    const change: ToPage = {
      type: "change",
      field: view.part,
      brand: view.brand,
      empty: view.isEmpty,
      complete: view.verdict().complete,
      ...(error === undefined ? {} : { error, message: view.errorMessage() }),
    };
    const text = JSON.stringify(change);
    if (this.told.get(view.part) === text) return;
    this.told.set(view.part, text);
    this.tell(change);
  }

  focused(view: PartView): void {
    dress(view, this.look.styles);
    if (this.seals) this.lazy.warm();
    this.tell({ type: "focus", field: view.part });
  }

  left(view: PartView): void {
    this.changed(view);
    this.tell({ type: "blur", field: view.part });
  }

  entered(): void {
    this.tell({ type: "submit" });
  }

  // --- what the page asks -----------------------------------------------------------------

  private async act(message: ToFrame): Promise<void> {
    switch (message.type) {
      case "init":
        return this.init(message);
      case "update":
        return this.update(message);
      case "focus":
        return (message.part ? this.view(message.part) : this.views[0])?.input.focus();
      case "clear":
        return this.clear();
      case "tokenize":
        return this.answer(message.id, () => this.tokenize(message.milliseconds));
      case "attach_cvc":
        return this.answer(message.id, () => this.attach(message.token, message.milliseconds));
    }
  }

  private init({ type: _, key, verifyKey, ...look }: Extract<ToFrame, { type: "init" }>): void {
    this.key ??= key;
    this.verifyKey ??= verifyKey;
    this.update({ type: "update", ...look });
    for (const peer of peersOf(this.own)) {
      const lengths = peer.codeLengths();
      if (lengths) this.own.codeLengthsAre(lengths);
    }
    this.tell({ type: "ready" });
    this.height = -1;
    this.tellHeight();
  }

  private update({ type: _, ...look }: Extract<ToFrame, { type: "update" }>): void {
    this.look = { ...this.look, ...look };
    applyLook(this.look, this.views);
  }

  private clear(): void {
    for (const view of this.views) view.clear();
    this.tellAll();
  }

  private tellAll(): void {
    this.told.clear();
    for (const view of this.views) this.changed(view);
  }

  private setting(): Setting {
    if (this.key === undefined) throw new Failed("not_ready", true);
    return {
      key: this.key,
      keyId: this.keyId,
      env: meta("env"),
      verifyKey: this.verifyKey,
      tenant: meta("tenant"),
      origin: this.page.origin,
      ledger: meta("ledger"),
    };
  }

  private async tokenize(milliseconds: number): Promise<Answer> {
    if (!this.own.parts.includes("number")) throw new Failed("not_ready", false);
    const peers = peersOf(this.own);
    return { type: "result", card: await tokenize(peers, this.setting(), this.lazy, milliseconds) };
  }

  private async attach(token: string, milliseconds: number): Promise<Answer> {
    if (!this.own.parts.includes("cvc")) throw new Failed("not_ready", false);
    await attachCvc(this.own, token, this.setting(), this.lazy, milliseconds);
    return { type: "done" };
  }

  /** What a shopper reads at a part, in whichever frame of the form it is. */
  private messageOf(part: Part): string {
    const holder = peersOf(this.own).find((peer) => peer.parts.includes(part));
    return holder?.message(part) ?? "";
  }

  private async answer(id: number, make: () => Promise<Answer>): Promise<void> {
    try {
      this.tell({ ...(await make()), id } as ToPage);
    } catch (error) {
      const failed = error instanceof Failed ? error : new Failed("unavailable", true);
      const { words } = spoken(this.look.locale);
      const { field } = failed.details;
      const shown = failed.code === "incomplete" && field && this.messageOf(field);
      this.tell({ type: "failure", id, error: failed.told(shown || words.failures[failed.code]) });
    }
  }
}

type Answer =
  | Omit<Extract<ToPage, { type: "result" }>, "id">
  | Omit<Extract<ToPage, { type: "done" }>, "id">;

/** A frame that was opened by itself, or without its secrets, stays empty. */
function start(): void {
  const said = new URLSearchParams(location.hash.slice(1));
  const [nonce, group] = [said.get("nonce") ?? "", said.get("group") ?? ""];
  const field = document.documentElement.dataset["field"] ?? "";
  const isFramed = window.parent !== window && HEX.test(nonce) && HEX.test(group);
  if (!isFramed || !Object.prototype.hasOwnProperty.call(PARTS, field)) return;
  new Field(field as FieldName, { source: window.parent, origin: meta("origin"), nonce }, group);
}

start();

/**
 * One iframe of the gateway's, from the page's side: placed, spoken to, listened to, taken away.
 *
 * What lives here: its element, its nonce, whether it has loaded. What never may: what the calls
 * are about. The frame is made by DOM calls alone, so a page may keep `script-src` and Trusted
 * Types as strict as it likes; it needs `frame-src` (and for a script tag `script-src`) to name
 * the gateway's origin, nothing more.
 */

import { notReady } from "./errors.js";
import { read } from "./incoming.js";
import { PROTOCOL } from "./messages.js";
import type { PanwardError } from "./errors.js";
import type { FieldName, Look, Part, ToFrame, ToPage } from "./messages.js";

const HEIGHT_MIN = 20;
const HEIGHT_MAX = 1200; // text at 200 %, with all errors, on a narrow phone: 700
/** What an unstyled frame will ask for, so that the page does not move once it does. */
const HEIGHT_AT_FIRST = { one: 78, card: 161 };
/** A document that has loaded without a word from our script is not the frame: an error page. */
const SILENCE_MILLISECONDS = 1000;

const TITLES: Readonly<Record<Part, string>> = {
  number: "Card number",
  expiry: "Expiration date",
  cvc: "Security code",
};

export interface Deployment {
  readonly gateway: string; // its origin
  readonly key: string;
  readonly keyId: string;
  readonly verifyKey?: string;
  readonly loadTimeoutMilliseconds: number;
}

/** Whom a frame tells. */
export interface Listener {
  heard(frame: Frame, message: ToPage): void;
  lost(frame: Frame, error: PanwardError): void;
}

export function drawHex(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function partsOf(field: FieldName): readonly Part[] {
  return field === "card" ? ["number", "expiry", "cvc"] : [field];
}

export class Frame {
  readonly parts: readonly Part[];
  readonly element: HTMLIFrameElement;
  ready = false;
  failed: PanwardError | undefined;
  private readonly nonce = drawHex();
  private timer: number | undefined;
  private started = false; // the script has spoken once
  private loads = 0;
  private greetings = 0;

  constructor(
    readonly field: FieldName,
    group: string,
    private readonly deployment: Deployment,
    private readonly listener: Listener,
  ) {
    this.parts = partsOf(field);
    this.element = document.createElement("iframe");
    const address = new URL("/checkout/v1/fields", deployment.gateway);
    address.search = new URLSearchParams({
      key: deployment.keyId,
      origin: location.origin,
      field,
    }).toString();
    address.hash = `nonce=${this.nonce}&group=${group}`;
    this.element.src = address.href;
    this.dress();
  }

  private dress(): void {
    const attributes = {
      allow: "",
      referrerpolicy: "no-referrer",
      allowtransparency: "true",
      scrolling: "no",
    };
    for (const [name, value] of Object.entries(attributes)) this.element.setAttribute(name, value);
    // Property by property: a `style` attribute would need the page's CSP to allow it.
    const { style } = this.element;
    style.display = "block";
    style.width = "100%";
    style.border = "0";
    style.background = "transparent";
    style.height = `${HEIGHT_AT_FIRST[this.field === "card" ? "card" : "one"]}px`;
    this.element.addEventListener("load", () => this.loadedSomething());
  }

  /** Frame and page must be of one scheme: else a browser paints the frame's canvas opaque. */
  wear(look: Look): void {
    const { labels = {}, scheme } = look;
    this.element.title = this.parts.map((part) => labels[part] ?? TITLES[part]).join(", ");
    this.element.style.colorScheme = scheme === "auto" ? "light dark" : (scheme ?? "light");
  }

  placeIn(parent: Element): void {
    this.await(this.deployment.loadTimeoutMilliseconds);
    parent.append(this.element);
  }

  remove(): void {
    clearTimeout(this.timer);
    this.ready = false;
    this.element.remove();
  }

  send(message: ToFrame): void {
    if (!this.started) return; // nobody is there yet: `init` will say how things are
    const enveloped = { ...message, panward: PROTOCOL, nonce: this.nonce };
    this.element.contentWindow?.postMessage(enveloped, this.deployment.gateway);
  }

  init(look: Look): void {
    const { key, verifyKey } = this.deployment;
    this.send({ type: "init", key, ...(verifyKey === undefined ? {} : { verifyKey }), ...look });
  }

  /** True if the event is from this frame's window: then no other frame need look at it. */
  receive(event: MessageEvent<unknown>): boolean {
    const { contentWindow } = this.element;
    if (contentWindow === null || event.source !== contentWindow) return false;
    if (event.origin !== this.deployment.gateway) return true;
    const message = read(event.data, this.nonce);
    if (message !== undefined && this.mayBeSaid(message)) this.take(message);
    return true;
  }

  /** A frame speaks of its own parts, and says nothing before its script said that it runs. */
  private mayBeSaid(message: ToPage): boolean {
    if ("field" in message && !this.parts.includes(message.field)) return false;
    return message.type === "loaded" || this.started;
  }

  private take(message: ToPage): void {
    if (message.type === "height") {
      const height = Math.min(Math.max(message.pixels, HEIGHT_MIN), HEIGHT_MAX);
      this.element.style.height = `${height}px`;
      return;
    }
    if (message.type === "loaded") {
      this.greetings += 1;
      this.started = true;
      this.ready = false;
      this.failed = undefined;
      this.await(this.deployment.loadTimeoutMilliseconds);
    } else if (message.type === "ready") {
      clearTimeout(this.timer);
      this.ready = true;
      this.failed = undefined;
    }
    this.listener.heard(this, message);
  }

  private loadedSomething(): void {
    this.loads += 1;
    if (this.loads <= this.greetings) return;
    // The script's word may still be under way from another process.
    setTimeout(() => {
      if (this.loads <= this.greetings || !this.element.isConnected) return;
      this.greetings = this.loads;
      this.fail();
    }, SILENCE_MILLISECONDS);
  }

  private await(milliseconds: number): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.fail(), milliseconds);
  }

  private fail(): void {
    clearTimeout(this.timer);
    this.ready = false;
    this.failed = notReady(
      "A card field did not load: is the gateway reachable, this page's origin on the key's " +
        "list, and the gateway's origin in the page's frame-src?",
    );
    this.listener.lost(this, this.failed);
  }
}

/**
 * Loads the sealing script, once, when a shopper turns to the field or the browser is idle.
 *
 * Here lives the one place of a frame that makes a script. Its URL goes through the Trusted Types
 * policy `panward`, which lets only the URL pass that the gateway wrote into the page, and its
 * bytes through the integrity beside it. What never may live here: any other URL.
 */

import type { Sealing } from "./sealing.js";

const IDLE_MILLISECONDS_MAX = 3_000;
const ADDRESS = /^(\/checkout\/v1\/[a-z0-9.-]+\.js) (sha384-[A-Za-z0-9+/]{64})$/;

interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL(url: string): string },
  ): { createScriptURL(url: string): string }; // a TrustedScriptURL, which `src` takes
}

export class Lazy {
  private loading: Promise<Sealing> | undefined;
  private readonly url: string;
  private readonly integrity: string;

  /** `address` is what the gateway wrote: the script's URL and its integrity. */
  constructor(address: string) {
    const [, url = "", integrity = ""] = ADDRESS.exec(address) ?? [];
    this.url = url;
    this.integrity = integrity;
  }

  /** Loads it if it is not there; a failed load is tried again at the next call. */
  sealing(): Promise<Sealing> {
    this.loading ??= this.load().catch((error: unknown) => {
      this.loading = undefined;
      throw error;
    });
    return this.loading;
  }

  /** Loads it soon, without anybody waiting for it. */
  warm(): void {
    this.sealing().catch(() => undefined); // whoever needs it tries again, and hears of it
  }

  warmWhenIdle(): void {
    const warm = (): void => this.warm();
    if (typeof requestIdleCallback === "function")
      requestIdleCallback(warm, { timeout: IDLE_MILLISECONDS_MAX });
    else setTimeout(warm, IDLE_MILLISECONDS_MAX);
  }

  private load(): Promise<Sealing> {
    return new Promise((resolve, reject) => {
      if (this.url === "") throw new TypeError("no sealing script");
      const script = document.createElement("script");
      script.integrity = this.integrity;
      script.onload = () => {
        if (window.panwardSealing) resolve(window.panwardSealing);
        else reject(new TypeError("not the sealing script"));
      };
      script.onerror = () => {
        script.remove();
        reject(new TypeError("the sealing script did not load"));
      };
      script.src = this.trusted();
      document.head.append(script);
    });
  }

  private policy: { createScriptURL(url: string): string } | undefined;

  private trusted(): string {
    const factory = (window as { trustedTypes?: TrustedTypes }).trustedTypes;
    if (!factory) return this.url;
    this.policy ??= factory.createPolicy("panward", {
      createScriptURL: (url) => {
        if (url !== this.url) throw new TypeError("not the sealing script");
        return url;
      },
    });
    return this.policy.createScriptURL(this.url);
  }
}

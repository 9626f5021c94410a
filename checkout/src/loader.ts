/**
 * `Panward(publishableKey)`: checks what a page gives, once, and makes sets of fields from it.
 *
 * What never lives here: storage, cookies, a second global, and any request; the frames make them.
 */

import { PanwardError, usage } from "./errors.js";
import { FieldSet } from "./field_set.js";
import type { Deployment } from "./frame.js";
import type { Client, FieldsOptions, PanwardFunction, PanwardOptions } from "./panward.js";

const KEY = /^pwpk_(?:test|live)_([0-9a-hjkmnp-tv-z]{16})[0-9a-hjkmnp-tv-z]{52}$/;
const TIMEOUT_MILLISECONDS = 30_000;
const LOAD_TIMEOUT_MILLISECONDS = 15_000;
const TIMEOUT_MILLISECONDS_MAX = 120_000;

function keyIdOf(key: unknown): string {
  const id = typeof key === "string" ? KEY.exec(key)?.[1] : undefined;
  // The text of what was given stays out of the error: it may be a secret key.
  if (id === undefined) throw usage("Panward: takes a publishable key (pwpk_…), and no other.");
  return `k_${id}`;
}

function originOf(address: string | undefined): string {
  let url: URL | undefined;
  try {
    url = new URL(address ?? "");
  } catch {
    throw usage("Panward: `gateway` must be the gateway's origin, such as https://pay.example.");
  }
  const local = url.hostname === "localhost" || url.hostname === "127.0.0.1";
  if (url.protocol !== "https:" && !(local && url.protocol === "http:")) {
    throw usage("Panward: the gateway must be https.");
  }
  return url.origin;
}

function within(milliseconds: number | undefined, usual: number): number {
  const given = milliseconds ?? usual;
  if (given > 0 && given <= TIMEOUT_MILLISECONDS_MAX) return given;
  throw usage("Panward: a timeout must be above 0 and at most 120,000 milliseconds.");
}

function checked(options: FieldsOptions): FieldsOptions {
  const { layout = "combined", only = "cvc" } = options;
  if (only !== "cvc") throw usage('fields: `only` can be "cvc".');
  if (layout !== "combined" && layout !== "separate") {
    throw usage('fields: `layout` can be "combined" or "separate".');
  }
  return options;
}

/** `scriptAddress`: where this script came from, if a script tag brought it. */
export function loader(scriptAddress: string | undefined): PanwardFunction {
  const open = (publishableKey: string, options: PanwardOptions = {}): Client => {
    const { gateway = scriptAddress, locale, verifyKey } = options;
    if (location.origin === "null") throw usage("Panward: this page has no origin.");
    const deployment: Deployment = {
      gateway: originOf(gateway),
      key: publishableKey,
      keyId: keyIdOf(publishableKey),
      ...(verifyKey === undefined ? {} : { verifyKey }),
      loadTimeoutMilliseconds: within(options.loadTimeoutMilliseconds, LOAD_TIMEOUT_MILLISECONDS),
    };
    const timeout = within(options.timeoutMilliseconds, TIMEOUT_MILLISECONDS);
    return {
      fields: (fieldsOptions = {}) => {
        const look = locale === undefined ? fieldsOptions : { locale, ...fieldsOptions };
        return new FieldSet(deployment, checked(look), timeout);
      },
    };
  };
  return Object.freeze(Object.assign(open, { PanwardError }));
}

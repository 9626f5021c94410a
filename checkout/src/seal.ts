/**
 * Sealing a card so that only the gateway's custody can open it: libsodium's sealed box.
 *
 * For a front end that renders its own inputs (then the card is in that page, with all that PCI
 * DSS asks of it), and for the hosted fields, which load it when it is needed. What never may
 * live here: a request with a card that is not sealed, storage, a log.
 *
 * The message is JSON with sorted keys and no white space, padded to a multiple of 512 bytes, so
 * that its length says nothing of the card; the gateway's `gateway/sealed.py` opens it.
 */

import sodium from "libsodium-wrappers";
import { type EdgeKey, type EdgeKeys, readEdgeKeys } from "./edge_keys.js";

export { usableKey } from "./edge_keys.js";
export type { EdgeKey, EdgeKeys } from "./edge_keys.js";

/** How long a sealed card may be on its way. The gateway refuses more than 15 minutes. */
export const SEALED_SECONDS = 300;

const BLOCK_BYTES = 512;
const NONCE_BYTES = 16;
const VERSION = 1;
const PUBLIC_KEY_BYTES = 32;

export interface Card {
  readonly number: string; // ASCII digits
  readonly exp_month: number;
  readonly exp_year: number; // four digits
  readonly cvc?: string;
}

export interface StoredCardCode {
  readonly token: string;
  readonly cvc: string;
}

/** Where a sealed message may be used, until when, and who can open it. */
export interface SealTerms {
  readonly kid: string;
  readonly publicKey: string; // base64, as published
  readonly tenant: string;
  readonly origin: string; // `https://shop.example`, or `app:com.example.shop`
  readonly expiresAt: number; // Unix seconds, by the gateway's clock
  readonly nonce?: string; // 22 base64url characters; drawn if absent
}

export interface Sealed {
  readonly sealed: string;
  readonly kid: string;
}

function drawnNonce(): string {
  const bytes = sodium.randombytes_buf(NONCE_BYTES);
  return sodium.to_base64(bytes, sodium.base64_variants.URLSAFE_NO_PADDING);
}

function base64(text: string): Uint8Array {
  return sodium.from_base64(text, sodium.base64_variants.ORIGINAL);
}

async function sealed(members: Readonly<Record<string, unknown>>, terms: SealTerms): Promise<Sealed> {
  await sodium.ready;
  const message = {
    ...members,
    expires_at: terms.expiresAt,
    kid: terms.kid,
    nonce: terms.nonce ?? drawnNonce(),
    origin: terms.origin,
    tenant: terms.tenant,
    v: VERSION,
  };
  const names = Object.keys(message).sort();
  const text = JSON.stringify(Object.fromEntries(names.map((name) => [name, message[name as "v"]])));
  const bytes = sodium.from_string(text);
  const padded = sodium.pad(bytes, BLOCK_BYTES);
  const box = sodium.crypto_box_seal(padded, base64(terms.publicKey));
  sodium.memzero(bytes);
  sodium.memzero(padded);
  return { sealed: sodium.to_base64(box, sodium.base64_variants.ORIGINAL), kid: terms.kid };
}

/** Seals a card: what `POST /v1/tokens` takes as its body. */
export function seal(card: Card, terms: SealTerms): Promise<Sealed> {
  const { cvc, exp_month, exp_year, number } = card;
  const sorted = { exp_month, exp_year, number };
  return sealed({ card: cvc === undefined ? sorted : { cvc, ...sorted } }, terms);
}

/** Seals a code for a stored card: what `POST /v1/tokens/{id}/cvc` takes as its body. */
export function sealCvc(code: StoredCardCode, terms: SealTerms): Promise<Sealed> {
  return sealed({ cvc: code.cvc, token: code.token }, terms);
}

/** What the gateway's signing key signs. */
function signedText(key: EdgeKey, ledgerOrigin: string): string {
  const { kid, publicKey, notBefore, notAfter } = key;
  const lines = ["panward/edge-key/v1", ledgerOrigin, kid, publicKey, notBefore, notAfter];
  return lines.map((line) => `${line}\n`).join("");
}

/**
 * Whether the deployment that a page trusts has signed this key.
 *
 * `verifyKey` is its signing key, base64 of 32 bytes; while that key is being replaced, the old
 * and the new one with a space between.
 */
export async function verifyEdgeKey(
  key: EdgeKey,
  ledgerOrigin: string,
  verifyKey: string,
): Promise<boolean> {
  await sodium.ready;
  const text = sodium.from_string(signedText(key, ledgerOrigin));
  return verifyKey.split(" ").some((pinned) => {
    try {
      const bytes = base64(pinned);
      if (bytes.length !== PUBLIC_KEY_BYTES) return false;
      return sodium.crypto_sign_verify_detached(base64(key.signature), text, bytes);
    } catch {
      return false; // not base64, or not a point of the curve
    }
  });
}

/** Fetches the keys to seal to; throws TypeError if there is no answer, or not such a one. */
export async function fetchEdgeKeys(gateway: string, publishableKey: string): Promise<EdgeKeys> {
  const answer = await fetch(`${gateway}/v1/edge-keys`, {
    headers: { Authorization: `Bearer ${publishableKey}` },
    cache: "no-cache", // the age of what is kept would be taken for the gateway's clock
    credentials: "omit",
    redirect: "error",
    referrerPolicy: "no-referrer",
  });
  if (!answer.ok) throw new TypeError(`edge keys: status ${answer.status}`);
  return readEdgeKeys(await answer.json(), answer.headers.get("Date"), Date.now());
}

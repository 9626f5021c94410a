/**
 * What `seal-….mjs` gives to a front end that draws its own inputs: written by hand, held to the
 * code by `seal-types.ts`, and published beside the built files as `seal.d.ts`.
 */

/** A sealing key as the gateway publishes it. */
export interface EdgeKey {
  readonly kid: string;
  readonly publicKey: string; // base64 of 32 bytes
  readonly notBefore: string; // RFC 3339, UTC, whole seconds
  readonly notAfter: string;
  readonly signature: string; // base64 of 64 bytes
}

export interface EdgeKeys {
  readonly tenant: string | undefined; // of the publishable key, if one was presented
  readonly origin: string; // of the deployment's ledger, part of what is signed
  readonly keys: readonly EdgeKey[]; // newest first
  readonly serverSeconds: number; // the gateway's clock when it answered, Unix seconds
}

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

/** How long a sealed card may be on its way. The gateway refuses more than 15 minutes. */
export declare const SEALED_SECONDS: number;

/** Fetches the keys to seal to; throws TypeError if there is no answer, or not such a one. */
export declare function fetchEdgeKeys(gateway: string, publishableKey: string): Promise<EdgeKeys>;

/** Gives the newest key whose time it is by the gateway's own clock. */
export declare function usableKey(published: EdgeKeys): EdgeKey | undefined;

/** Whether the deployment whose signing key (base64) a page pinned has signed this key. */
export declare function verifyEdgeKey(
  key: EdgeKey,
  ledgerOrigin: string,
  verifyKey: string,
): Promise<boolean>;

/** Seals a card: what `POST /v1/tokens` takes as its body. */
export declare function seal(card: Card, terms: SealTerms): Promise<Sealed>;

/** Seals a code for a stored card: what `POST /v1/tokens/{id}/cvc` takes as its body. */
export declare function sealCvc(code: StoredCardCode, terms: SealTerms): Promise<Sealed>;

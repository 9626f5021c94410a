/**
 * What `panward.js` gives to a merchant's page: written by hand, held to the code by
 * `entry-module.ts`, and published beside the built files as it is.
 */

export type Part = "number" | "expiry" | "cvc";

export type FieldErrorCode =
  | "incomplete"
  | "number_luhn"
  | "number_length"
  | "expiry_past"
  | "expiry_invalid"
  | "expiry_too_far"
  | "cvc_length";

export type ErrorCode =
  | "usage" // the page calls panward wrongly: a mistake to mend, not one to show to a shopper
  | "incomplete" // a field is empty or wrong: `field` says which, `reason` why
  | "card_refused" // the gateway refused a value: `field`, `reason`
  | "network" // nothing answered, after all tries
  | "timeout"
  | "rate_limited"
  | "key_refused" // the publishable key is unknown, revoked or of another environment
  | "origin_refused" // this page's origin is not on the key's list
  | "token_unknown" // only for a code: there is no such stored card
  | "tampered" // the sealing key is not signed by the key that the page pinned
  | "not_ready" // a frame did not load in time, or is gone
  | "unavailable"; // the gateway cannot do it at this moment

export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly retryable: boolean;
  readonly field?: Part;
  readonly reason?: string;
  readonly requestId?: string;
}

/** What every call rejects with, and what the event `failure` carries. */
export declare class PanwardError extends Error implements Failure {
  constructor(failure: Failure);
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly field?: Part;
  readonly reason?: string;
  readonly requestId?: string;
}

/** A card as a page may have it. */
export interface MaskedCard {
  readonly id: string;
  readonly brand: string;
  readonly last4: string;
  readonly exp_month: number;
  readonly exp_year: number;
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly single_use: boolean;
}

/** Only listed CSS properties reach a frame, and only plain values. */
export type Style = Readonly<Record<string, string>>;

export interface Styles {
  readonly base?: Style;
  readonly focus?: Style;
  readonly invalid?: Style;
  readonly complete?: Style;
  readonly placeholder?: Style;
}

export interface Look {
  readonly locale?: string; // en, de, fr, es; else the browser's
  readonly scheme?: "light" | "dark" | "auto"; // else that of the element that it is mounted in
  readonly styles?: Styles;
  readonly labels?: Readonly<Partial<Record<Part, string>>>;
  readonly placeholders?: Readonly<Partial<Record<Part, string>>>;
  readonly disabled?: boolean;
}

export interface PanwardOptions {
  /** Origin of the gateway. A script tag's is where the script came from; a module must say it. */
  readonly gateway?: string;
  /** Language of every `fields()` that names none itself. */
  readonly locale?: string;
  /** The deployment's signing key (base64): sealing keys that it did not sign are refused. */
  readonly verifyKey?: string;
  /** How long a call may take in all: 30,000 unless told. */
  readonly timeoutMilliseconds?: number;
  /** How long a frame may take until it is ready: 15,000 unless told. */
  readonly loadTimeoutMilliseconds?: number;
}

export interface FieldsOptions extends Look {
  /** One frame with all three (`combined`, unless told), or a frame each. */
  readonly layout?: "combined" | "separate";
  /** The code of a stored card alone, for `attachCvc`. */
  readonly only?: "cvc";
}

export interface ChangeEvent {
  /** Which field changed; `fieldComplete`, `empty`, `error` and `message` are about it. */
  readonly field: Part;
  readonly fieldComplete: boolean;
  readonly empty: boolean;
  readonly error?: FieldErrorCode;
  /** The error in the fields' language. */
  readonly message?: string;
  /** Whether every field is complete: `tokenize()` would go ahead. */
  readonly complete: boolean;
  /** The card's brand, `unknown` until it can be told. */
  readonly brand: string;
}

export interface FieldEvent {
  readonly field: Part;
}

export interface FieldsEvents {
  ready: undefined;
  change: ChangeEvent;
  focus: FieldEvent;
  blur: FieldEvent;
  /** Enter was pressed in a field. */
  submit: undefined;
  /** A frame did not load, or is gone; calls reject with the same error. */
  failure: PanwardError;
}

/** A selector, or the element itself. */
export type Place = string | Element;

export interface Fields {
  /** Places the frames; one element a part takes the layout `separate`. */
  mount(target: Place | Readonly<Record<Part, Place>>): this;
  /** Calls `handler` at each event from now on, until the function it gives is called. */
  on<E extends keyof FieldsEvents>(
    event: E,
    handler: (detail: FieldsEvents[E]) => void,
  ): () => void;
  /** Makes a token of the card typed in. A second call while one is under way is the same call. */
  tokenize(): Promise<MaskedCard>;
  /** Keeps the code typed in for a stored card (`only: "cvc"`). */
  attachCvc(token: string): Promise<void>;
  focus(part?: Part): void;
  clear(): void;
  update(look: Look): void;
  /** Takes the frames away; what is under way rejects. It may be mounted again. */
  unmount(): void;
  readonly complete: boolean;
  readonly brand: string;
}

export interface Client {
  fields(options?: FieldsOptions): Fields;
}

export interface PanwardFunction {
  (publishableKey: string, options?: PanwardOptions): Client;
  /** The class of every error, for pages without modules. */
  readonly PanwardError: typeof PanwardError;
}

export declare const Panward: PanwardFunction;

declare global {
  interface Window {
    /** There once the script tag's `panward.js` has run. */
    readonly Panward?: PanwardFunction;
  }
}

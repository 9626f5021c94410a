/**
 * The frame's calls of its own gateway: how long, how often, and what an answer means.
 *
 * What never may live here: a card. Bodies come sealed, from a function that seals anew for
 * each try, since a nonce is good for one.
 */

import { type EdgeKeys, readEdgeKeys } from "../edge_keys.js";
import { Failed, type Problem, failedBy } from "./failed.js";

const TRIES_MAX = 4;
const TRY_MILLISECONDS_MAX = 10_000;
const PAUSE_MILLISECONDS = 250;
const PASSING: readonly number[] = [429, 502, 503, 504];
/** With a fresh nonce and fresh keys these pass, if they pass at all. */
const SEALED_ANEW: readonly string[] = ["sealed_replayed", "edge_key_unknown"];
const WORD = /^[a-z][a-z0-9_.]{0,39}$/;
const REQUEST_ID = /^[0-9A-Za-z_-]{1,64}$/;

type Members = Readonly<Record<string, unknown>>;

/** What a try needs did not load: as good as no answer, and tried again like it. */
export class NotLoaded extends Error {}

/** An end that all parts of one call share. */
export class Deadline {
  private readonly end: number;

  constructor(milliseconds: number) {
    this.end = performance.now() + milliseconds;
  }

  left(): number {
    return Math.max(0, this.end - performance.now());
  }

  check(): void {
    if (this.left() <= 0) throw new Failed("timeout", true);
  }

  /** Waits for it or for the end, whichever is first. */
  async within<T>(waited: Promise<T>): Promise<T> {
    let timer = 0;
    const over = new Promise<never>((_, reject) => {
      timer = window.setTimeout(() => reject(new Failed("timeout", true)), this.left());
    });
    try {
      return await Promise.race([waited, over]);
    } finally {
      clearTimeout(timer);
    }
  }
}

interface Answer {
  readonly status: number;
  readonly body: unknown; // undefined if it is not JSON
  readonly headers: Headers;
}

/** Of a problem, only words of a known form are taken. */
function problemOf({ status, body }: Answer): Problem {
  const from = (typeof body === "object" && body !== null ? body : {}) as Members;
  const word = (name: string, pattern: RegExp): string => {
    const value = from[name];
    return typeof value === "string" && pattern.test(value) ? value : "";
  };
  return {
    status,
    code: word("code", WORD),
    field: word("field", WORD),
    reason: word("reason", WORD),
    requestId: word("request_id", REQUEST_ID),
  };
}

function retryAfterMilliseconds(headers: Headers): number {
  const text = headers.get("Retry-After") ?? "";
  return /^\d{1,6}$/.test(text) ? Number(text) * 1000 : 0;
}

export class Gateway {
  private readonly headers: Readonly<Record<string, string>>;

  constructor(
    key: string,
    private readonly deadline: Deadline,
  ) {
    this.headers = { Authorization: `Bearer ${key}` };
  }

  async edgeKeys(): Promise<EdgeKeys> {
    const { body, headers } = await this.retried(() =>
      this.once("/v1/edge-keys", { headers: this.headers, cache: "no-cache" }),
    );
    try {
      return readEdgeKeys(body, headers.get("Date"), Date.now());
    } catch {
      throw new Failed("unavailable", true);
    }
  }

  /** Posts what `sealedAnew` makes; `again` says that the gateway did not know the key. */
  async post(path: string, sealedAnew: (again: boolean) => Promise<object>): Promise<unknown> {
    let again = false;
    const answer = await this.retried(async () => {
      const made = await sealedAnew(again).catch(nothingIfNotLoaded);
      if (made === undefined) return noAnswer();
      const body = JSON.stringify(made);
      const headers = { ...this.headers, "Content-Type": "application/json" };
      const found = await this.once(path, { method: "POST", headers, body, cache: "no-store" });
      again = problemOf(found).code === "edge_key_unknown";
      return found;
    });
    return answer.body;
  }

  /** Tries until an answer is final, and throws Failed unless that is a good one. */
  private async retried(attempt: () => Promise<Answer>): Promise<Answer> {
    let anew = 0;
    for (let tries = 1; ; tries += 1) {
      this.deadline.check();
      const answer = await attempt();
      if (answer.status >= 200 && answer.status < 300) return answer;
      const problem = problemOf(answer);
      const isAnew = SEALED_ANEW.includes(problem.code) && (anew += 1) === 1;
      const passes = answer.status === 0 || PASSING.includes(answer.status) || isAnew;
      const wait = Math.max(
        isAnew ? 0 : PAUSE_MILLISECONDS * 2 ** (tries - 1) * (0.5 + Math.random()),
        retryAfterMilliseconds(answer.headers),
      );
      if (!passes || tries === TRIES_MAX || wait >= this.deadline.left()) {
        if (answer.status === 0) throw new Failed("network", true);
        throw failedBy(problem);
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  private async once(path: string, init: RequestInit): Promise<Answer> {
    const controller = new AbortController();
    const limit = Math.min(TRY_MILLISECONDS_MAX, this.deadline.left());
    const timer = setTimeout(() => controller.abort(), limit);
    try {
      const response = await fetch(path, {
        ...init,
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
        signal: controller.signal,
      });
      const text = await response.text();
      return { status: response.status, body: jsonOf(text), headers: response.headers };
    } catch {
      this.deadline.check();
      return noAnswer();
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Status 0 says that nothing came back. */
function noAnswer(): Answer {
  return { status: 0, body: undefined, headers: new Headers() };
}

function nothingIfNotLoaded(error: unknown): undefined {
  if (!(error instanceof NotLoaded)) throw error;
  return undefined;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

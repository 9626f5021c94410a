/**
 * From what stands in the fields to a token: gather, judge, seal, send.
 *
 * Values are read once, here, and held by no one after the call. What never may live here: the
 * document, and a failure with a digit in it.
 */

import { type EdgeKey, usableKey } from "../edge_keys.js";
import type { FieldErrorCode, MaskedCard, Part } from "../messages.js";
import type { Card, SealTerms, Sealed } from "../seal.js";
import { codeLengthsOf, judgeCvc } from "./cvc.js";
import { digitsOf } from "./digits.js";
import { judgeExpiry, parseExpiry } from "./expiry.js";
import { Failed } from "./failed.js";
import { Deadline, Gateway, NotLoaded } from "./gateway.js";
import type { Lazy } from "./lazy.js";
import { judgeNumber } from "./number.js";
import type { PanwardField } from "./peers.js";
import type { Sealing } from "./sealing.js";

const TOKEN = /^pwt_(test|live)_[0-9a-hjkmnp-tv-z]{28}$/;
const SEALED_SECONDS = 300;

/** What the gateway wrote into the frame, and what the page said at `init`. */
export interface Setting {
  readonly key: string;
  readonly keyId: string; // of the frame's URL
  readonly env: string;
  readonly verifyKey: string | undefined;
  readonly tenant: string;
  readonly origin: string;
  readonly ledger: string;
}

function holder(peers: readonly PanwardField[], part: Part): PanwardField | undefined {
  return peers.find((peer) => peer.parts.includes(part));
}

function blamed(peer: PanwardField, part: Part, reason: FieldErrorCode | undefined): Failed {
  const why = reason ?? "incomplete";
  peer.blame(part, why);
  return new Failed("incomplete", false, { field: part, reason: why });
}

/** Reads the form's card in reading order. Throws Failed for the first part that is wrong. */
export function gather(peers: readonly PanwardField[], nowMs: number): Card {
  const numberPeer = holder(peers, "number");
  const expiryPeer = holder(peers, "expiry");
  const cvcPeer = holder(peers, "cvc");
  if (!numberPeer || !expiryPeer)
    throw new Failed("not_ready", true, { field: numberPeer ? "expiry" : "number" });
  const number = digitsOf(numberPeer.read("number"));
  const ofNumber = judgeNumber(number);
  if (!ofNumber.complete) throw blamed(numberPeer, "number", ofNumber.reason);
  const expiryText = expiryPeer.read("expiry");
  const ofExpiry = judgeExpiry(expiryText, nowMs);
  const expiry = parseExpiry(expiryText);
  if (!ofExpiry.complete || !expiry) throw blamed(expiryPeer, "expiry", ofExpiry.reason);
  const card = { number, exp_month: expiry.month, exp_year: expiry.year };
  if (!cvcPeer) return card;
  const cvc = gatherCode(cvcPeer, codeLengthsOf(number));
  return cvc === "" ? card : { ...card, cvc };
}

function gatherCode(peer: PanwardField, lengths: readonly number[]): string {
  const cvc = digitsOf(peer.read("cvc"));
  const verdict = judgeCvc(cvc, lengths);
  if (!verdict.complete) throw blamed(peer, "cvc", verdict.reason);
  return cvc;
}

/** One call of the page: its deadline, its keys, its tries. */
class Collection {
  private readonly gateway: Gateway;
  private terms: Promise<SealTerms> | undefined;

  constructor(
    private readonly setting: Setting,
    private readonly lazy: Lazy,
    private readonly deadline: Deadline,
  ) {
    this.gateway = new Gateway(setting.key, deadline);
  }

  post(path: string, seal: (sealing: Sealing, terms: SealTerms) => Promise<Sealed>): Promise<unknown> {
    const { key, keyId, env } = this.setting;
    const isThisFrames = key.startsWith(`pwpk_${env}_${keyId.slice(2)}`);
    if (!isThisFrames || !/^pwpk_(test|live)_[0-9a-hjkmnp-tv-z]{68}$/.test(key))
      throw new Failed("key_refused", false);
    return this.gateway.post(path, async (again) => {
      const sealing = await this.sealing();
      if (again) this.terms = undefined;
      this.terms ??= this.fetchTerms(sealing);
      return seal(sealing, await this.terms);
    });
  }

  private async sealing(): Promise<Sealing> {
    try {
      return await this.deadline.within(this.lazy.sealing());
    } catch (error) {
      throw error instanceof Failed ? error : new NotLoaded();
    }
  }

  private async fetchTerms(sealing: Sealing): Promise<SealTerms> {
    const published = await this.gateway.edgeKeys();
    const { verifyKey, tenant, origin } = this.setting;
    const key = usableKey(published);
    if (verifyKey !== undefined && !(key && (await this.isPinned(sealing, key, verifyKey))))
      throw new Failed("tampered", false);
    if (!key) throw new Failed("unavailable", true);
    const expiresAt = published.serverSeconds + SEALED_SECONDS;
    return { kid: key.kid, publicKey: key.publicKey, tenant, origin, expiresAt };
  }

  private isPinned(sealing: Sealing, key: EdgeKey, verifyKey: string): Promise<boolean> {
    return sealing.verifyEdgeKey(key, this.setting.ledger, verifyKey);
  }
}

export async function tokenize(
  peers: readonly PanwardField[],
  setting: Setting,
  lazy: Lazy,
  milliseconds: number,
): Promise<MaskedCard> {
  const card = gather(peers, Date.now());
  const collection = new Collection(setting, lazy, new Deadline(milliseconds));
  const answer = await collection.post("/v1/tokens", (sealing, terms) => sealing.seal(card, terms));
  return masked(answer);
}

export async function attachCvc(
  own: PanwardField,
  token: string,
  setting: Setting,
  lazy: Lazy,
  milliseconds: number,
): Promise<void> {
  if (!TOKEN.test(token)) throw new Failed("token_unknown", false);
  const cvc = gatherCode(own, [3, 4]);
  const collection = new Collection(setting, lazy, new Deadline(milliseconds));
  await collection.post(`/v1/tokens/${token}/cvc`, (sealing, terms) =>
    sealing.sealCvc({ token, cvc }, terms),
  );
}

type Members = Readonly<Record<string, unknown>>;

/** Takes the members that a page may have; the page's own reader checks their forms. */
function masked(answer: unknown): MaskedCard {
  if (typeof answer !== "object" || answer === null) throw new Failed("unavailable", true);
  const from = answer as Members;
  const { id, brand, last4, exp_month, exp_year, created_at, expires_at, single_use } = from;
  if (typeof id !== "string" || !TOKEN.test(id)) throw new Failed("unavailable", true);
  const card = { id, brand, last4, exp_month, exp_year, created_at, expires_at, single_use };
  return card as MaskedCard;
}

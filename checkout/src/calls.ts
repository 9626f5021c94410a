/**
 * Calls to a frame that wait for their answer: each has an id, a frame, a deadline and one end.
 *
 * What never lives here: what is in an answer.
 */

import { tooSlow } from "./errors.js";
import type { PanwardError } from "./errors.js";
import type { Frame } from "./frame.js";
import type { ToFrame, ToPage } from "./messages.js";

/** Words a call as a message, once its id and the time that is left are known. */
export type Say = (id: number, milliseconds: number) => ToFrame;

export type Answer = Extract<ToPage, { readonly type: "result" | "done" }>;

interface Call {
  readonly frame: Frame;
  readonly answer: Answer["type"];
  readonly timer: number;
  readonly send: () => void;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: PanwardError) => void;
  sent: boolean;
}

export class Calls {
  private readonly open = new Map<number, Call>();
  private lastId = 0;

  /** Opens a call; it is sent by `sendWaiting`, and over after `milliseconds`, sent or not. */
  make(
    frame: Frame,
    answer: Answer["type"],
    milliseconds: number,
    say: Say,
  ): Promise<Answer> {
    const id = ++this.lastId;
    const deadline = performance.now() + milliseconds;
    return new Promise((resolve, reject) => {
      this.open.set(id, {
        frame,
        answer,
        timer: window.setTimeout(() => this.end(id)?.reject(tooSlow()), milliseconds),
        send: () => {
          const left = Math.ceil(deadline - performance.now());
          frame.send(say(id, Math.max(left, 1)));
        },
        resolve,
        reject,
        sent: false,
      });
    });
  }

  sendWaiting(): void {
    for (const call of this.open.values()) {
      if (call.sent) continue;
      call.sent = true;
      call.send();
    }
  }

  /** An answer counts only from the frame that was asked, and only of the kind asked for. */
  answered(frame: Frame, answer: Answer): void {
    const call = this.open.get(answer.id);
    if (call?.frame !== frame || !call.sent || call.answer !== answer.type) return;
    this.end(answer.id)?.resolve(answer);
  }

  refused(frame: Frame, id: number, error: PanwardError): void {
    const call = this.open.get(id);
    if (call?.frame === frame && call.sent) this.end(id)?.reject(error);
  }

  /** The frame forgot what it was asked. */
  forgotten(frame: Frame, error: PanwardError): void {
    for (const [id, call] of this.open) {
      if (call.frame === frame && call.sent) this.end(id)?.reject(error);
    }
  }

  endAll(error: PanwardError): void {
    for (const id of this.open.keys()) this.end(id)?.reject(error);
  }

  private end(id: number): Call | undefined {
    const call = this.open.get(id);
    clearTimeout(call?.timer);
    this.open.delete(id);
    return call;
  }
}

/**
 * What a script tag runs: one global, and the gateway is where the script came from.
 *
 * A page that runs it twice keeps the first: handlers and `instanceof` go on to work.
 */

import { loader } from "./loader.js";

const script = document.currentScript;
const address = script instanceof HTMLScriptElement ? script.src : undefined;

if (!window.Panward) {
  Object.defineProperty(window, "Panward", { value: loader(address), enumerable: true });
}

/** Every language's words, by its tag: what `locales-plugin.mjs` makes of the folder. */
declare module "panward:locales" {
  const locales: Readonly<Record<string, import("./words.js").Words>>;
  export default locales;
}

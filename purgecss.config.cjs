// Writes static/tabler.css: the rules of Tabler that our pages can match. Used by `npm ci` and `make`.
module.exports = {
  css: ["node_modules/@tabler/core/dist/css/tabler.min.css"],
  // Every word in these files counts as the name of a possible class, element or attribute.
  content: ["templates/**/*.html", "static/*.js"],
  // The library for forms writes the types of fields.
  dynamicAttributes: ["type"],
  output: "static/tabler.css",
  keyframes: true,
  fontFace: true,
};

// The module that a notebook is given: it holds the lab's own modules as texts, and makes them modules that import each
// other, since a notebook serves no files of ours. notebook.py puts them in, each after those that it imports.
const GIVEN = null;

/** Return `path`'s module, made again, with all that it imports: two labs of a notebook share nothing. */
async function open(path) {
  const urls = new Map();
  for (const [name, source] of GIVEN.modules) {
    const text = source.replace(/(\bfrom\s*)"(\.[^"]+)"/g, (whole, from, to) => {
      const url = urls.get(new URL(to, `http://lab/${name}`).pathname.slice(1));
      return url ? `${from}"${url}"` : whole;
    });
    urls.set(name, URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  }
  try { return await import(urls.get(path)); } finally { for (const url of urls.values()) URL.revokeObjectURL(url); }
}

export default {
  async render({ model, el }) {
    const { show } = await open("notebook/notebook.js");
    return show({ model, el, catalogues: GIVEN.catalogues, style: GIVEN.style });
  },
};

// @ts-check
// One store: what the page is set to, in plain JSON, kept in the address and read back field by field.

const VERSION = 1;
const SETTLE = 250; // ms without a change after which the address is written, and an undo step ends
const LONGEST = 1000; // ms that a change waits at most for the address, and at least between what a clock writes

/** Checks that schemas are made of. Each returns whether a value read from an address may be used. */
export const is = {
  number: (low = -Infinity, high = Infinity) => (v) => typeof v === "number" && Number.isFinite(v) && v >= low && v <= high,
  integer: (low, high) => (v) => Number.isInteger(v) && v >= low && v <= high,
  text: (most = 1000) => (v) => typeof v === "string" && v.length <= most,
  one: (...of) => (v) => of.includes(v),
  bool: (v) => typeof v === "boolean",
  nothing: (v) => v === null,
  any: (...checks) => (v) => checks.some((c) => c(v)),
  list: (check, least = 0, most = 100) => (v) => Array.isArray(v) && v.length >= least && v.length <= most && v.every(check),
  record: (checks) => (v) => v !== null && typeof v === "object" && !Array.isArray(v)
    && Object.keys(checks).every((k) => (k.endsWith("?") ? !(k.slice(0, -1) in v) || checks[k](v[k.slice(0, -1)]) : k in v && checks[k](v[k])))
    && Object.keys(v).every((k) => k in checks || `${k}?` in checks),
  /** a flat record of numbers, strings and booleans under plain names: hyperparameters */
  flat: (most = 24) => (v) => v !== null && typeof v === "object" && !Array.isArray(v) && Object.keys(v).length <= most
    && Object.entries(v).every(([k, x]) => /^[A-Za-z]\w{0,40}$/.test(k)
      && (typeof x === "boolean" || x === null || (typeof x === "string" && x.length < 100) || (typeof x === "number" && Number.isFinite(x)))),
};

const equal = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const copy = (v) => (v === undefined ? undefined : JSON.parse(JSON.stringify(v)));

/** Where a page keeps its state: behind the # of its address. */
const ADDRESS = { read: () => location.hash.slice(1), write: (fragment) => history.replaceState(null, "", `#${fragment}`) };

/**
 * Make the store. `schemas` maps each group ("shell" for the page's own, else a room's id) to
 * `{field: {default, check}}`; shell's fields lie at the top level of the state. It is kept in `address`.
 */
export function makeStore(schemas, address = ADDRESS) {
  const state = {};
  const listeners = new Set();
  /** @type {string[]} */
  const past = [];
  let base = /** @type {string | null} */ (null); // where the undo step that is being made began
  let written = "", writing = 0, ending = 0, due = Infinity, wroteAt = -Infinity;

  const defaults = () => {
    const made = {};
    for (const [group, schema] of Object.entries(schemas)) {
      const into = group === "shell" ? made : (made[group] = {});
      for (const [field, { default: d }] of Object.entries(schema)) into[field] = copy(d);
    }
    return made;
  };

  /** Take what is valid of `raw`; return the names of the fields that were not. */
  function take(raw) {
    const bad = [];
    Object.assign(state, defaults());
    if (raw === null || typeof raw !== "object" || Array.isArray(raw)) return ["state"];
    if (raw.koubai !== VERSION) return ["koubai"];
    for (const [group, schema] of Object.entries(schemas)) {
      const from = group === "shell" ? raw : raw[group];
      const into = group === "shell" ? state : state[group];
      if (from === undefined) continue;
      if (from === null || typeof from !== "object" || Array.isArray(from)) { bad.push(group); continue; }
      for (const [field, { check }] of Object.entries(schema)) {
        if (!Object.hasOwn(from, field)) continue;
        let good = false;
        try { good = check(from[field]); } catch { good = false; }
        if (good) into[field] = copy(from[field]);
        else bad.push(group === "shell" ? field : `${group}.${field}`);
      }
    }
    return bad;
  }

  /** The state without what is at its default: short enough for a link. */
  function compact() {
    const base = defaults();
    const out = { koubai: VERSION };
    for (const group of Object.keys(schemas)) {
      const from = group === "shell" ? state : state[group];
      const plain = group === "shell" ? base : base[group];
      const differs = Object.keys(schemas[group]).filter((k) => !equal(from[k], plain[k]));
      if (!differs.length) continue;
      const into = group === "shell" ? out : (out[group] = {});
      for (const k of differs) into[k] = copy(from[k]);
    }
    return out;
  }

  // a fragment may hold these as they are, and a link with them can be read by people
  const fragment = () => encodeURIComponent(JSON.stringify(compact())).replace(/%(3A|2C|2F)/g, decodeURIComponent);

  function readAddress() {
    const text = address.read();
    if (!text) { Object.assign(state, defaults()); return []; }
    let raw;
    try { raw = JSON.parse(decodeURIComponent(text)); } catch { Object.assign(state, defaults()); return ["state"]; }
    return take(raw);
  }

  const now = () => JSON.stringify(compact());

  function write() {
    clearTimeout(writing);
    writing = 0;
    due = Infinity;
    const made = fragment();
    if (made === written) return;
    written = made;
    wroteAt = performance.now();
    address.write(made);
  }

  /** The undo step is over: what comes next is another one. */
  function end() {
    clearTimeout(ending);
    ending = 0;
    if (base !== null && base !== now()) { past.push(base); if (past.length > 100) past.shift(); }
    base = null;
    tell({ settled: true });
  }

  /** The address follows when hands rest, but not too late: what never rests (a clock, a long drag) is kept as well. */
  function follow(clock) {
    const at = performance.now();
    if (clock && writing) return;
    due = Math.min(due, at + LONGEST);
    const then = clock ? Math.max(at + SETTLE, wroteAt + LONGEST) : Math.min(at + SETTLE, due);
    clearTimeout(writing);
    writing = window.setTimeout(write, Math.max(0, then - at));
    if (clock) return;
    clearTimeout(ending);
    ending = window.setTimeout(end, SETTLE);
  }

  function tell(change) { for (const l of [...listeners]) l(state, change); }

  const store = {
    state,
    /** Read the address; returns the fields that could not be used. */
    readAddress() {
      if (base !== null) end();
      const bad = readAddress();
      clearTimeout(writing);
      writing = 0;
      due = Infinity;
      written = fragment();
      return bad;
    },
    /** Get a group's values ("descent"), or a field of the page's own ("lang"). */
    get: (name) => state[name],
    /**
     * Change fields of a room, or with "shell" of the page; listeners hear at once, the address follows. What a clock
     * does while something plays or trains, or what follows from something else, begins no undo step.
     * @param {string} group @param {object} values @param {{clock?: boolean}} [how]
     */
    set(group, values, { clock = false } = {}) {
      const into = group === "shell" ? state : state[group];
      const changed = Object.keys(values).filter((k) => !equal(into[k], values[k]));
      if (!changed.length) return;
      if (!clock) base ??= now();
      for (const k of changed) into[k] = copy(values[k]);
      tell({ group, changed });
      follow(clock);
    },
    /**
     * Put what a link says and nobody can use at what can be used: nobody's change, so neither the address nor Undo
     * follows. @param {string} group @param {object} values
     */
    mend(group, values) {
      Object.assign(group === "shell" ? state : state[group], copy(values));
      written = fragment();
    },
    /** Hear of each change: `listener(state, {group, changed} | {settled: true} | {all: true})`; returns how to stop. */
    subscribe(listener) { listeners.add(listener); return () => listeners.delete(listener); },
    /** Whether the address holds what the state does, and the next change begins another step of Undo. */
    isSettled: () => !writing && base === null,
    canUndo: () => past.length > 0 || base !== null,
    /** Go back to where the last step began. */
    undo() {
      const back = base !== null && base !== now() ? base : past.pop();
      base = null;
      clearTimeout(ending);
      if (!back) { tell({ settled: true }); return; }
      take(JSON.parse(back));
      write();
      tell({ all: true });
    },
    /** Replace everything (a link's fragment, a lesson). Returns the fields that could not be used. */
    replace(raw) {
      base ??= now();
      const bad = take(raw);
      tell({ all: true });
      follow(false);
      return bad;
    },
    fragment,
    compact,
    /** Write the address now. */
    flush() { if (writing) write(); },
  };
  return store;
}

// @ts-check
// The connection to the engine: asks, answers in binary, newest wins. How messages travel is a transport's matter: the
// page has a websocket, which comes back by itself when the server does; a notebook has the kernel's own channel.

/** What a promise is rejected with when a newer ask of the same view took its place. */
export class Superseded extends Error {}

/** A message without where in the ask it was found, which is nothing to people: "spec.data.csv has no samples". */
function plain(message) {
  return message.replace(/^(?:spec|dataset)(?:\.\w+|\[\d+\])*: /, "")
    .replace(/\b(?:spec|dataset)(?:\.\w+|\[\d+\])*\.(\w+)/g, (_, name) => (name === "csv" ? "the CSV" : name))
    .replace(/^the /, "The ");
}

/** What a promise is rejected with when the server says no: `code`, the message for people, and where in an expression. */
export class Refused extends Error {
  /** @param {{code: string, message: string, position?: [number, number]}} header */
  constructor(header) {
    super(plain(String(header.message)));
    this.code = header.code;
    this.position = header.position ?? null;
  }
}

const KINDS = {
  float32: Float32Array, float64: Float64Array, int32: Int32Array, uint32: Uint32Array, uint16: Uint16Array,
  uint8: Uint8Array, int8: Int8Array,
};
const NOT_FINITE = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };
const text = new TextDecoder();

/** Return a JSON value with the strings "NaN", "Infinity" and "-Infinity" as the numbers that they stand for. */
function numbers(value) {
  if (typeof value === "string") return value in NOT_FINITE ? NOT_FINITE[value] : value;
  if (Array.isArray(value)) return value.map(numbers);
  if (value && typeof value === "object") {
    for (const key of Object.keys(value)) value[key] = numbers(value[key]);
  }
  return value;
}

/** Read one binary answer: its header's values, and `arrays` as typed arrays, each with a `shape`. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = numbers(JSON.parse(text.decode(new Uint8Array(buffer, 4, length))));
  const start = 4 + length;
  const arrays = {};
  for (const [name, a] of Object.entries(header.arrays ?? {})) {
    const size = a.shape.reduce((p, n) => p * n, 1);
    const Kind = KINDS[a.dtype];
    const from = start + a.offset;
    const fits = from % Kind.BYTES_PER_ELEMENT === 0;
    const array = fits ? new Kind(buffer, from, size)
      : new Kind(buffer.slice(from, from + size * Kind.BYTES_PER_ELEMENT));
    /** @type {any} */ (array).shape = a.shape;
    arrays[name] = array;
  }
  header.arrays = arrays;
  return header;
}

/**
 * What a transport hears: `up()` when it can send, `down()` when it no longer can, `message(buffer)` for an answer.
 * @typedef {{up: () => void, down: () => void, message: (buffer: ArrayBuffer) => void}} Hearer
 * @typedef {{send: (text: string) => void, ready: () => boolean, close: () => void}} Transport
 */

/**
 * The page's way to its server. It opens itself again, with longer and longer waits.
 * @param {Hearer} hear @returns {Transport}
 */
export function websocket(hear) {
  /** @type {WebSocket | null} */
  let socket = null;
  let wait = 250;
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";

  function open() {
    socket = new WebSocket(`${scheme}//${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { wait = 250; hear.up(); };
    socket.onmessage = (event) => { if (event.data instanceof ArrayBuffer) hear.message(event.data); };
    socket.onclose = () => {
      socket = null;
      hear.down();
      setTimeout(open, wait);
      wait = Math.min(4000, wait * 1.6);
    };
  }
  open();
  return {
    send: (message) => socket?.send(message),
    ready: () => socket !== null && socket.readyState === WebSocket.OPEN,
    close: () => { if (socket) { socket.onclose = null; socket.close(); } },
  };
}

/**
 * Open the connection. `lang()` is sent with each ask; `onChange(up)` hears of each loss and return.
 * @param {{lang: () => string, onChange: (up: boolean) => void, transport?: (hear: Hearer) => Transport}} options
 */
export function connect({ lang, onChange, transport = websocket }) {
  let id = 0;
  let wasUp = true;
  /** @type {Map<string, {flying: any, waiting: any}>} */
  const views = new Map();

  function send(job) {
    job.id = ++id;
    // with each sending, so that an ask repeated after a loss is in the language of now
    way.send(JSON.stringify({ view: job.view, id: job.id, ask: job.name, lang: lang(), ...job.args }));
  }

  const way = transport({
    up() {
      if (!wasUp) onChange(true);
      wasUp = true;
      for (const view of views.values()) if (view.flying) send(view.flying);
    },
    down() {
      if (wasUp) onChange(false);
      wasUp = false;
    },
    message: (buffer) => receive(unpack(buffer)),
  });
  const ready = () => way.ready();

  function receive(answer) {
    const view = views.get(answer.view);
    if (!view?.flying || view.flying.id !== answer.id) return;
    const job = view.flying;
    view.flying = view.waiting;
    view.waiting = null;
    if (view.flying && ready()) send(view.flying);
    if (answer.ok) job.resolve(answer);
    else if (answer.code === "superseded") job.reject(new Superseded("superseded"));
    else job.reject(new Refused(answer));
  }

  /**
   * Ask the engine: at most one request of a view is in flight, and the newest one waits for it.
   * @param {string} view @param {string} name @param {object} [args]
   * @param {{urgent?: boolean}} [options] urgent: cancel what is in flight instead of waiting for its end
   * @returns {Promise<any>} the answer; rejects with Superseded or Refused
   */
  function ask(view, name, args = {}, { urgent = false } = {}) {
    return new Promise((resolve, reject) => {
      const job = { view, name, args, resolve, reject, id: 0 };
      const at = views.get(view) ?? { flying: null, waiting: null };
      views.set(view, at);
      if (!at.flying) {
        at.flying = job;
        if (ready()) send(job);
      } else if (urgent) {
        // the server cancels the older one of a view by itself
        at.flying.reject(new Superseded("superseded"));
        at.waiting?.reject(new Superseded("superseded"));
        at.waiting = null;
        at.flying = job;
        if (ready()) send(job);
      } else {
        at.waiting?.reject(new Superseded("superseded"));
        at.waiting = job;
      }
    });
  }

  return {
    ask, isUp: ready, close: () => way.close(),
    /** Whether an answer is being waited for. */
    isBusy: () => [...views.values()].some((view) => view.flying),
  };
}

/** Swallow Superseded, which is no failure; let anything else through. */
export function unlessSuperseded(error) {
  if (!(error instanceof Superseded)) throw error;
}

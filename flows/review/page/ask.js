// What the page asks of its server, and the decisions that wait until they are on its disk.

export const person = document.body.dataset.person;

export async function ask(path, fields = {}) {
  const reply = await fetch(`${path}?${new URLSearchParams(fields)}`);
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error || `${reply.status}`);
  return answer;
}

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
export const numbers = (text) => new Float32Array(bytes(text).buffer);
export const cells = bytes;

// The newest question of a kind wins: those asked meanwhile are never sent.
export function latest(work) {
  let busy = false, next = null;
  return async function run(...words) {
    if (busy) { next = words; return; }
    busy = true;
    try { await work(...words); } finally {
      busy = false;
      if (next) { const again = next; next = null; run(...again); }
    }
  };
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

const OUTBOX = "holter-review-outbox";
const stored = () => JSON.parse(localStorage.getItem(OUTBOX) || "[]");
const store = (list) => localStorage.setItem(OUTBOX, JSON.stringify(list));
const own = () => stored().filter((item) => item.person === person);
export const waiting = () => own().length;

export function newId() {
  const digits = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(digits, (digit) => digit.toString(16).padStart(2, "0")).join("");
}

// A decision is kept in this browser until the server says that it is on the disk. It has one id
// for ever, so that one which is sent twice is kept once.
export function keep(decision) {
  store([...stored(), { person, decision }]);
}

// Send all that waits, the first first; `told(words, isFault)` says what came of it.
export const send = latest(async (told) => {
  for (const { decision } of own()) {
    let reply;
    try {
      reply = await fetch("/decisions", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(decision),
      });
    } catch {
      told("Not saved yet: the server does not answer. It is kept here and sent again.", true);
      return;
    }
    const answer = await reply.json().catch(() => ({ error: `${reply.status}` }));
    if (reply.status >= 500) {
      told(`Not saved yet: ${answer.error}. It is kept here and sent again.`, true);
      return;
    }
    store(stored().filter((item) => item.decision.id !== decision.id));
    told(reply.ok ? "Saved." : `Refused: ${answer.error}`, !reply.ok, reply.ok);
  }
});

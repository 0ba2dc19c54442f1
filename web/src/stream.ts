/**
 * The collector's event stream, read with fetch instead of EventSource.
 *
 * EventSource hides the comment lines that keep an idle stream alive, and gives up for
 * good on an HTTP error; the page must know when it last heard anything at all, and
 * must come back by itself after the collector's restart. Holds no state of the page.
 */

export interface ServerSentEvent {
  event: string;
  data: string;
}

/** Cuts text chunks into events: WHATWG HTML, "server-sent events", 9.2.6. */
export class EventParser {
  #rest = "";
  #event = "";
  #data: string[] = [];

  /** Events completed by `chunk`; comments and unknown fields are dropped. */
  push(chunk: string): ServerSentEvent[] {
    const text = this.#rest + chunk;
    // A CR at the very end may be half of a CRLF: wait for what follows.
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? "") + text.slice(end);
    const events: ServerSentEvent[] = [];
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length > 0) {
          events.push({
            event: this.#event || "message",
            data: this.#data.join("\n"),
          });
        }
        this.#event = "";
        this.#data = [];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") this.#event = value;
      else if (field === "data") this.#data.push(value);
    }
    return events;
  }
}

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;
/** No byte for so long: the connection is dead even if TCP has not noticed. */
const SILENCE_MS = 40_000;

/** Wait before the n-th retry: doubling, with full jitter, so that screens spread. */
export function retryDelayMs(attempt: number, random: number): number {
  const ceiling = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
  return FIRST_RETRY_MS / 2 + random * ceiling;
}

export interface StreamListener {
  /** Any byte arrived, also a comment. */
  heard(): void;
  event(event: ServerSentEvent): void;
  /** The connection ended or failed; a retry follows. */
  lost(reason: unknown): void;
}

/** Follows `url` until the returned function is called. */
export function follow(url: string, listener: StreamListener): () => void {
  const stop = new AbortController();
  let attempt = 0;

  const readOnce = async (): Promise<void> => {
    const connection = new AbortController();
    const abort = () => connection.abort();
    stop.signal.addEventListener("abort", abort);
    let watchdog = setTimeout(abort, SILENCE_MS);
    try {
      const answer = await fetch(url, {
        headers: { Accept: "text/event-stream" },
        cache: "no-store",
        signal: connection.signal,
      });
      if (!answer.ok || !answer.body) throw new Error(`HTTP ${answer.status}`);
      const parser = new EventParser();
      const decoder = new TextDecoder();
      const reader = answer.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new Error("the collector closed the stream");
        clearTimeout(watchdog);
        watchdog = setTimeout(abort, SILENCE_MS);
        attempt = 0;
        listener.heard();
        for (const event of parser.push(decoder.decode(value, { stream: true }))) {
          listener.event(event);
        }
      }
    } finally {
      clearTimeout(watchdog);
      stop.signal.removeEventListener("abort", abort);
    }
  };

  const run = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      try {
        await readOnce();
      } catch (reason) {
        if (stop.signal.aborted) return;
        listener.lost(reason);
      }
      const delay = retryDelayMs(attempt, Math.random());
      attempt += 1;
      await new Promise((resume) => setTimeout(resume, delay));
    }
  };
  void run();
  return () => stop.abort();
}

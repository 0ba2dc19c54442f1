import { describe, expect, it } from "vitest";
import { EventParser, retryDelayMs } from "../src/stream";

const WHOLE =
  ": ping\n\nevent: update\ndata: {\"a\":\ndata: 1}\n\r\nid: 7\ndata: x\r\n\r\nevent: lone\n\ndata:y\n\n";
const WANT = [
  { event: "update", data: '{"a":\n1}' },
  { event: "message", data: "x" },
  { event: "message", data: "y" },
];

describe("the parser", () => {
  it("reads events, several data lines, CRLF, and drops comments", () => {
    expect(new EventParser().push(WHOLE)).toEqual(WANT);
  });

  it("gives the same wherever the network cuts the text", () => {
    for (let cut = 0; cut <= WHOLE.length; cut += 1) {
      const parser = new EventParser();
      const events = [...parser.push(WHOLE.slice(0, cut)), ...parser.push(WHOLE.slice(cut))];
      expect(events, `cut at ${cut}`).toEqual(WANT);
    }
    const parser = new EventParser();
    expect([...WHOLE].flatMap((letter) => parser.push(letter))).toEqual(WANT);
  });

  it("gives nothing of an event that is not finished", () => {
    expect(new EventParser().push("event: update\ndata: {}\n")).toEqual([]);
  });
});

it("waits longer with each failure, at most ten seconds and a little", () => {
  expect(retryDelayMs(0, 0)).toBe(250);
  expect(retryDelayMs(0, 1)).toBe(750);
  expect(retryDelayMs(3, 1)).toBe(4_250);
  expect(retryDelayMs(40, 1)).toBe(10_250);
});

import { describe, expect, it } from "vitest";
import { NO_FILTER, formatRoute, parseRoute, type Route } from "../src/route";

const HOME: Route = {
  site: null,
  wall: false,
  filter: NO_FILTER,
  sort: "worst",
  descending: false,
  range: "1h",
  language: null,
};

describe("the address", () => {
  it.each<[string, Partial<Route>]>([
    ["/", {}],
    ["/site/tps-6408052001-901", { site: "tps-6408052001-901" }],
    ["/site/a%2Fb", { site: "a/b" }],
    ["/?wall=1", { wall: true }],
    ["/?q=muara+wahau", { filter: { ...NO_FILTER, text: "muara wahau" } }],
    [
      "/?c=offline,degraded&k=Sangatta+Utara&p=XL",
      {
        filter: {
          text: "",
          conditions: ["offline", "degraded"],
          kecamatan: "Sangatta Utara",
          provider: "XL",
        },
      },
    ],
    ["/?sort=rtt&dir=desc", { sort: "rtt", descending: true }],
    ["/site/kpu-kutim?range=24h&lang=en", { site: "kpu-kutim", range: "24h", language: "en" }],
  ])("%s is the state, both ways", (path, change) => {
    const route = { ...HOME, ...change };
    const [pathname = "", search = ""] = path.split("?");
    expect(parseRoute(pathname, search)).toEqual(route);
    expect(formatRoute(route)).toBe(path);
  });

  it.each(["?sort=nonsense", "?range=9y", "?lang=xx", "?c=broken", "?wall=0", "?future=1"])(
    "%s from another version still opens the first screen",
    (search) => expect(parseRoute("/", search)).toEqual(HOME),
  );

  it("takes a badly encoded site id as it stands", () => {
    expect(parseRoute("/site/%E0%A4%A", "").site).toBe("%E0%A4%A");
  });
});

/** The page's entry: starts the stream and draws the screen that the address asks for. */
import { render } from "preact";
import "./styles/base.css";
import "./styles/screen.css";
import "./styles/site.css";
import "./styles/wall.css";
import { route, sites, start, summary, words } from "./store";
import { Counters } from "./views/counters";
import { Feed } from "./views/feed";
import { Header, StaleBanner } from "./views/header";
import { DistrictMap } from "./views/map";
import { Providers } from "./views/providers";
import { SitePage } from "./views/site";
import { SiteTable } from "./views/table";
import { Wall } from "./views/wall";

function Overview() {
  const t = words.value;
  return (
    <main class="overview">
      <Counters />
      <div class="upper">
        <section class="panel map-panel" aria-labelledby="map-title">
          <h2 id="map-title" class="only-read">
            {t("map.title")}
          </h2>
          <DistrictMap />
        </section>
        <Providers />
      </div>
      <div class="lower">
        <SiteTable />
        <Feed />
      </div>
    </main>
  );
}

function Page() {
  const t = words.value;
  const state = summary.value;
  const { site, wall } = route.value;
  const place = (site !== null ? sites.value.get(site)?.name : null) ?? state?.district;
  document.title = t("app.title", { place: place ?? t("app.control_room") });
  return (
    <>
      {site === null && !wall && (
        <a class="skip" href="#sites">
          {t("app.skip")}
        </a>
      )}
      <Header />
      <StaleBanner />
      {site !== null ? (
        <SitePage siteId={site} />
      ) : !state ? (
        <main class="loading">
          <p role="status">{t("app.loading")}</p>
        </main>
      ) : wall ? (
        <Wall />
      ) : (
        <Overview />
      )}
    </>
  );
}

start();
const root = document.getElementById("page");
if (!root) throw new Error("index.html has no #page");
render(<Page />, root);

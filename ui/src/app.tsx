import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { message } from "./api/client";
import { Link } from "./components/link";
import { ErrorNotice } from "./components/notices";
import { env, root } from "./env";
import { visible } from "./lib/text";
import { localTime, theme, type Theme } from "./lib/settings";
import { pageOf, pages, type Page } from "./pages";
import { usePlace } from "./router";

/** The frame of all pages: navigation, settings, and the page of the place. */
export function App() {
  const page = pageOf(usePlace().path);
  useEffect(() => {
    document.title = page ? `${page.title} · Hindsight` : "Hindsight";
  }, [page]);
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to the page
      </a>
      <header class="top">
        <span class="brand" title={`Hindsight ${env.version}`}>
          Hindsight <small>{env.role}</small>
        </span>
        <nav aria-label="Pages">
          {pages
            .filter((p) => !p.below)
            .map((p) => (
              <Link key={p.path} path={p.path} current={p === page || p.path === page?.below}>
                {p.title}
              </Link>
            ))}
        </nav>
        {env.links && (
          <nav class="links" aria-label="Other processes">
            {env.links.map((l) => (
              <a key={l.title} href={new URL(l.url, root).href}>
                {visible(l.title)} <span aria-hidden="true">↗</span>
              </a>
            ))}
          </nav>
        )}
        <Settings />
      </header>
      <main id="main" tabIndex={-1}>
        {page && <Loaded key={page.path} page={page} />}
      </main>
    </>
  );
}

function skip(e: Event) {
  e.preventDefault();
  document.getElementById("main")?.focus();
}

/** The content of a page, whose module is loaded when it is opened for the first time. */
function Loaded({ page }: { page: Page }) {
  const [content, set] = useState<{ view?: ComponentType; error?: string }>({});
  useEffect(() => {
    let gone = false;
    page.load().then(
      (module) => gone || set({ view: module.default }),
      (e) =>
        gone ||
        set({ error: `The page cannot be loaded, reload it if the server is new: ${message(e)}` }),
    );
    return () => {
      gone = true;
    };
  }, [page]);
  if (content.error) {
    return <ErrorNotice text={content.error} />;
  }
  const View = content.view;
  return View ? <View /> : <p class="quiet pad">Loading …</p>;
}

function Settings() {
  const mode = theme.use();
  const local = localTime.use();
  useEffect(() => {
    if (mode === "auto") {
      delete document.documentElement.dataset.theme;
    } else {
      document.documentElement.dataset.theme = mode;
    }
  }, [mode]);
  return (
    <div class="settings">
      <label>
        <span class="sr">Time zone</span>
        <select
          value={local ? "local" : "utc"}
          onChange={(e) => localTime.set(e.currentTarget.value === "local")}
        >
          <option value="utc">UTC</option>
          <option value="local">Local time</option>
        </select>
      </label>
      <label>
        <span class="sr">Colours</span>
        <select value={mode} onChange={(e) => theme.set(e.currentTarget.value as Theme)}>
          <option value="auto">Auto</option>
          <option value="light">Light</option>
          <option value="dark">Dark</option>
        </select>
      </label>
    </div>
  );
}

import { render } from "preact";
import { App } from "./app";
import "./style.css";

// Browsers refuse requests for URLs with a password, which a link may have. They know it by
// now, so the page does not need it.
const here = new URL(document.URL);
if (here.username || here.password) {
  here.username = here.password = "";
  location.replace(here);
} else {
  render(<App />, document.getElementById("app")!);
}

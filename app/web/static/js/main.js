/** Start of the page: who is signed in, the frame, the routes. */
import { preload, revisit, start } from "./router.js";
import { session } from "./session.js";
import { buildShell, markNav } from "./ui/shell.js";

/** @type {import("./router.js").Route[]} */
const ROUTES = [
  { path: "/", title: "Start", nav: "", load: () => import("./views/home.js") },
  { path: "/signin", title: "Sign in", nav: "account", load: () => import("./views/auth.js") },
  { path: "/signup", title: "Create an account", nav: "account", load: () => import("./views/auth.js") },
  { path: "/live", title: "Live detection", nav: "live", load: () => import("./views/live.js") },
  { path: "/upload", title: "Detect in pictures", nav: "upload", load: () => import("./views/upload.js") },
  { path: "/text", title: "Classify text", nav: "text", load: () => import("./views/text.js") },
  { path: "/history", title: "History", nav: "history", load: () => import("./views/history.js") },
  { path: "/history/:id", title: "Record", nav: "history", load: () => import("./views/record.js") },
  { path: "/models", title: "Models", nav: "models", load: () => import("./views/models.js") },
  { path: "/account", title: "Account", nav: "account", load: () => import("./views/account.js") },
  { path: "/users", title: "Users", nav: "account", load: () => import("./views/users.js") },
];

async function boot() {
  buildShell();
  // On its way while the server is asked who is here.
  preload(ROUTES);
  await session.start();
  start(ROUTES, (route) => markNav(route.nav));
  session.addEventListener("change", () => {
    if (!location.hash.startsWith("#/sign")) revisit();
  });
}

boot();

// Starts Swagger UI with local files only. A classic script: SwaggerUIBundle is a global.
(function () {
  /* global SwaggerUIBundle */
  const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);

  let theme = null;
  try {
    theme = localStorage.getItem("lookout.theme");
  } catch {
    // The system's own theme is used.
  }
  const isDark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.classList.toggle("dark-mode", isDark);

  // Whoever signed in on the page can try calls out with that session: its unsafe calls need the CSRF token.
  async function withCsrf(request) {
    const isOurs = new URL(request.url, location.href).origin === location.origin;
    if (isOurs && !SAFE.has((request.method || "GET").toUpperCase())) {
      const answer = await fetch("/csrf");
      if (answer.ok) request.headers["X-CSRF-Token"] = (await answer.json()).csrf_token;
    }
    return request;
  }

  // What the description gives to copy: clients of the WebSocket, which cannot be tried out here.
  function addCopyButtons() {
    for (const block of document.querySelectorAll(".info .renderedMarkdown pre")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "docs-copy";
      button.textContent = "Copy";
      const { textContent } = block;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(textContent);
        button.textContent = "Copied";
        setTimeout(() => {
          button.textContent = "Copy";
        }, 1500);
      });
      block.append(button);
    }
  }

  // Controls that Swagger UI draws without a name for screen readers.
  const NAMES = {
    "textarea.body-param__text": "Request body",
    ".examples-select-element": "Example",
    "button.close-modal": "Close",
  };
  new MutationObserver(() => {
    for (const [selector, name] of Object.entries(NAMES)) {
      for (const control of document.querySelectorAll(`${selector}:not([aria-label])`)) {
        control.setAttribute("aria-label", name);
      }
    }
    // Who speaks to the browser says the word that stands on the button.
    for (const button of document.querySelectorAll(".modal-btn[aria-label]")) {
      const label = button.getAttribute("aria-label");
      if (!label.includes(button.textContent)) button.setAttribute("aria-label", `${button.textContent}: ${label}`);
    }
  }).observe(document.body, { childList: true, subtree: true });

  SwaggerUIBundle({
    onComplete: addCopyButtons,
    url: "/openapi.json",
    dom_id: "#swagger",
    deepLinking: true,
    // All schemas below the operations would be thrice as long as these.
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    filter: true,
    persistAuthorization: true,
    tryItOutEnabled: true,
    validatorUrl: null,
    requestInterceptor: withCsrf,
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
  });
})();

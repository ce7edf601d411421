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

  SwaggerUIBundle({
    onComplete: addCopyButtons,
    url: "/openapi.json",
    dom_id: "#swagger",
    deepLinking: true,
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

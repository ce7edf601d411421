// Classic script in <head>: sets the remembered theme before the first paint, which a module would be too late for.
(function () {
  try {
    const theme = localStorage.getItem("lookout.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be blocked; the system's own theme is then used.
  }
})();

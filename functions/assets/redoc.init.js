Redoc.init(
  document.currentScript.dataset.openapi,
  { hideDownloadButtons: true, theme: { typography: { fontFamily: "sans-serif", headings: { fontFamily: "sans-serif" } } } },
  document.getElementById("page"),
);

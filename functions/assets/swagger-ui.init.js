SwaggerUIBundle({
  url: document.currentScript.dataset.openapi,
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  validatorUrl: null,
});

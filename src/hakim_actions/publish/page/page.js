
"use strict";
(() => {
  const form = document.getElementById("search");
  const field = document.getElementById("q");
  const hits = document.getElementById("hits");
  const rows = [...document.querySelectorAll("#packages tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    hits.textContent = words.length ? `${shown} of ${rows.length}` : "";
  };
  const linked = new URLSearchParams(location.hash.slice(1)).get("q");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  field.addEventListener("input", filter);
  if (linked) { field.value = linked; filter(); }
  if (navigator.clipboard) {
    document.querySelectorAll("pre").forEach((pre) => {
      const button = document.createElement("button");
      const command = pre.textContent;
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(command);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      pre.after(button);
    });
  }
})();

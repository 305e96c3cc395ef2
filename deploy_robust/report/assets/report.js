"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);

  // -- light and dark: the system's choice until the reader makes one
  const button = byId("theme");
  const isDark = () =>
    (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  button.hidden = false;
  label();

  // -- a slider between clean and attacked output, made of the pictures that the strip already shows
  for (const figure of document.querySelectorAll(".compare")) {
    const strip = figure.closest(".strip");
    const copy = (name, side) => {
      const image = strip.querySelector(`img[data-picture="${name}"]`).cloneNode();
      image.removeAttribute("data-picture");
      image.alt = "";
      image.className = side;
      return image;
    };
    const stack = document.createElement("div");
    stack.className = "stack";
    const divider = document.createElement("span");
    divider.className = "divider";
    stack.append(copy("clean output", "under"), copy("attacked output", "over"), divider);
    const slider = document.createElement("input");
    slider.type = "range";
    slider.min = 0;
    slider.max = 100;
    slider.value = 50;
    slider.setAttribute("aria-label", `Clean output left, attacked output right of the line: ${figure.dataset.name}`);
    const move = () => {
      stack.style.setProperty("--cut", `${slider.value}%`);
      slider.setAttribute("aria-valuetext", `${slider.value} % clean output`);
    };
    slider.addEventListener("input", move);
    move();
    stack.append(slider);
    const caption = document.createElement("figcaption");
    caption.textContent = "Clean \u2194 attacked";
    figure.append(stack, caption);
    figure.hidden = false;
  }

  // -- the filter; its choice stands in the address, so that a view can be linked to
  const filters = byId("filters");
  if (filters) {
    const attack = byId("attack-filter");
    const epsilon = byId("epsilon-filter");
    const strips = [...document.querySelectorAll(".strip")];
    const apply = () => {
      let count = 0;
      for (const strip of strips) {
        const fits =
          (!attack.value || strip.dataset.attack === attack.value) &&
          (!epsilon.value || strip.dataset.epsilon === epsilon.value);
        strip.hidden = !fits;
        count += fits;
      }
      byId("shown").textContent = `${count} of ${strips.length} shown`;
      byId("nothing").hidden = count > 0;
    };
    const read = () => {
      const wanted = new URLSearchParams(location.hash.slice(1));
      const choose = (select, value) => {
        select.value = [...select.options].some((option) => option.value === value) ? value : "";
      };
      choose(attack, wanted.get("attack") || "");
      choose(epsilon, wanted.get("epsilon") || "");
      apply();
    };
    const write = () => {
      const chosen = new URLSearchParams();
      if (attack.value) chosen.set("attack", attack.value);
      if (epsilon.value) chosen.set("epsilon", epsilon.value);
      history.replaceState(null, "", `#${chosen}`);
      apply();
    };
    filters.addEventListener("change", write);
    filters.addEventListener("submit", (event) => event.preventDefault());
    addEventListener("hashchange", read);
    filters.hidden = false;
    read();
  }

  // -- paper has no disclosure triangles
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
})();

const narrow = matchMedia("(max-width: 44rem)");
const plots = [...document.querySelectorAll(".plot")];
for (const element of plots) {
  const figure = JSON.parse(element.nextElementSibling.textContent);
  if (narrow.matches) figure.layout.font.size = 11;
  Plotly.newPlot(element, figure.data, figure.layout, { responsive: true, displayModeBar: false });
}
const panel = document.querySelector("#panel");
if (panel) {
  const drawing = document.querySelector("#frontier .plot");
  const select = panel.querySelector("select");
  const { chosen, dropped } = drawing.data[0].meta;
  const show = (number) => {
    const gone = new Set(dropped[number]);
    const images = [...panel.querySelectorAll("img")];
    for (const image of images) image.classList.toggle("dropped", gone.has(image.dataset.sample));
    panel.querySelector("output").textContent = `${images.length - gone.size} of ${images.length} kept`;
    select.value = number;
  };
  drawing.on("plotly_hover", (event) => event.points[0].curveNumber === 0 && show(event.points[0].pointNumber));
  select.addEventListener("change", () => show(Number(select.value)));
  show(chosen);
}
// A scroll bar, a late font or a turned phone changes a plot's width without resizing the window.
const observer = new ResizeObserver((seen) => seen.forEach((one) => Plotly.Plots.resize(one.target)));
plots.forEach((element) => observer.observe(element));
// Paper gets the tables of numbers; how each was measured, and sentences that repeat a table, stay folded.
const closed = [];
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details.numbers:not([open]), .held > details:not(.again, [open])")) { one.open = true; closed.push(one); }
  for (const element of plots) Plotly.relayout(element, { width: Math.min(element.clientWidth, 680) });
});
addEventListener("afterprint", () => {
  for (const one of closed.splice(0)) one.open = false;
  for (const element of plots) Plotly.relayout(element, { width: null, autosize: true });
});

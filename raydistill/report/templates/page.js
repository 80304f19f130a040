const narrow = matchMedia("(max-width: 44rem)");
const plots = [...document.querySelectorAll(".plot")];
for (const element of plots) {
  const figure = JSON.parse(element.nextElementSibling.textContent);
  if (narrow.matches) figure.layout.font.size = 11;
  Plotly.newPlot(element, figure.data, figure.layout, { responsive: true, displayModeBar: false });
}
// A scroll bar, a late font or a turned phone changes a plot's width without resizing the window.
const observer = new ResizeObserver((seen) => seen.forEach((one) => Plotly.Plots.resize(one.target)));
plots.forEach((element) => observer.observe(element));
const closed = [];
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open])")) { one.open = true; closed.push(one); }
  for (const element of plots) Plotly.relayout(element, { width: Math.min(element.clientWidth, 680) });
});
addEventListener("afterprint", () => {
  for (const one of closed.splice(0)) one.open = false;
  for (const element of plots) Plotly.relayout(element, { width: null, autosize: true });
});

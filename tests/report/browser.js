// Runs the page's script on as much of a document as it asks for, and says what a reader would see.
const { figure, samples, script } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const listeners = {};
const on = (name, heard) => { listeners[name] = heard; };
const image = (sample) => {
  const classes = new Set();
  const classList = { toggle: (name, is) => (is ? classes.add(name) : classes.delete(name)), has: (name) => classes.has(name) };
  return { dataset: { sample }, classList };
};
const images = samples.map(image);
const select = { value: null, addEventListener: (name, heard) => on(`select ${name}`, heard) };
const output = { textContent: "" };
const panel = {
  querySelector: (what) => ({ select, output })[what],
  querySelectorAll: (what) => ({ img: images })[what],
};
const plot = { nextElementSibling: { textContent: JSON.stringify(figure) }, on };
const document = {
  querySelector: (what) => ({ "#panel": panel, "#frontier .plot": plot })[what],
  querySelectorAll: (what) => ({ ".plot": [plot] })[what] ?? [],
};
const Plotly = { newPlot: (element, data) => { element.data = data; } };
const matchMedia = () => ({ matches: false });
const ResizeObserver = class { observe() {} };
const addEventListener = () => {};
new Function("document", "Plotly", "matchMedia", "ResizeObserver", "addEventListener", script)(
  document, Plotly, matchMedia, ResizeObserver, addEventListener,
);
const steps = [];
const seen = (did) => {
  const faded = images.filter((one) => one.classList.has("dropped")).map((one) => one.dataset.sample);
  steps.push({ did, faded, said: output.textContent, selected: Number(select.value) });
};
seen("opened");
listeners.plotly_hover({ points: [{ curveNumber: 0, pointNumber: 1 }] });
seen("pointed at 1");
listeners.plotly_hover({ points: [{ curveNumber: 1, pointNumber: 0 }] });
seen("pointed at the ring");
select.value = "3";
listeners["select change"]();
seen("selected 3");
process.stdout.write(JSON.stringify(steps));

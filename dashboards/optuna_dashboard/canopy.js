// By default an open page polls every ten seconds; poll every three, to show a running search sooner.
(() => {
  const every = window.setInterval;
  window.setInterval = (run, ms, ...rest) => every(run, ms === 10000 ? 3000 : ms, ...rest);
})();

// An open page asks for news every ten seconds unless its user chooses otherwise; what a search does
// is to be seen sooner.
(() => {
  const every = window.setInterval;
  window.setInterval = (run, ms, ...rest) => every(run, ms === 10000 ? 3000 : ms, ...rest);
})();

/**
 * The page's style. Colours are named after their meaning. In both schemes, text has a contrast of at least 4.5:1 to
 * every background it is used on (WCAG 2, level AA).
 */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #f6f7f8; --card: #ffffff; --line: #d9dde2; --faint: #eceef1;
  --text: #1b1f24; --quiet: #57606a; --accent: #0a5bb5;
  --good: #1a6b38; --bad: #b3261e; --warn: #855400;
  --bar: #6f9ac8; --p50: #0a5bb5; --p99: #9a5b00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171a; --card: #1c2024; --line: #353b42; --faint: #272c32;
    --text: #e4e7ea; --quiet: #a2abb5; --accent: #7db4f0;
    --good: #6fcf8f; --bad: #ff8f86; --warn: #e5b25d;
    --bar: #4a75a3; --p50: #7db4f0; --p99: #e5b25d;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--text);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
code, .code {
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .92em;
}
code, .text { overflow-wrap: anywhere; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 8px; top: 8px; background: var(--card); padding: 4px 8px; z-index: 1; }
header, main, footer { max-width: 1560px; margin: 0 auto; padding: 0 24px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 16px; padding-top: 20px; padding-bottom: 12px; }
h1 { font-size: 20px; line-height: 1.3; font-weight: 600; margin: 0; }
h2 { font-size: 15px; font-weight: 600; margin: 0 0 8px; }
h2 small { font-size: 13px; font-weight: 400; color: var(--quiet); margin-left: 6px; }
section { margin: 0 0 28px; }
.quiet { color: var(--quiet); }
.meta { color: var(--quiet); }
.refresh { margin-left: auto; display: flex; align-items: baseline; gap: 10px; color: var(--quiet); }
button {
  font: inherit; color: var(--text); background: var(--card); border: 1px solid var(--line); border-radius: 4px;
  padding: 3px 10px; min-height: 28px; cursor: pointer;
}
button:hover { border-color: var(--quiet); }
.state { white-space: nowrap; font-weight: 600; }
.state::before { content: ""; display: inline-block; width: 8px; height: 8px; margin-right: 6px; background: currentColor; }
.good { color: var(--good); } .good::before { border-radius: 50%; }
.bad { color: var(--bad); }
.warn { color: var(--warn); } .warn::before { transform: rotate(45deg) scale(.85); }
.none { color: var(--quiet); font-weight: 400; } .none::before { border-radius: 50%; background: none; border: 1px solid; }
.notice {
  border: 1px solid var(--bad); border-left-width: 4px; border-radius: 4px; background: var(--card);
  margin: 0 0 20px; padding: 10px 14px;
}
.notice ul { margin: 4px 0 0; padding-left: 20px; }
.tiles { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 1px;
  background: var(--line); border: 1px solid var(--line); border-radius: 6px; overflow: hidden; margin: 0 0 28px; padding: 0; }
.tile { background: var(--card); padding: 12px 16px; min-width: 0; }
.tile dt { color: var(--quiet); font-size: 13px; }
.tile dd { margin: 0; }
.tile .figure { font-size: 20px; line-height: 1.4; font-weight: 600; }
.tile .state { font-size: 16px; line-height: 28px; }
.tile .detail { color: var(--quiet); font-size: 13px; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 20px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px 8px; min-width: 0; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 16px; justify-content: space-between; margin-bottom: 8px; }
figcaption strong { font-weight: 600; }
.key { color: var(--quiet); font-size: 13px; }
.key span { white-space: nowrap; margin-left: 12px; }
.key span:first-child { margin-left: 0; }
.key span::before { content: ""; display: inline-block; width: 10px; height: 10px; margin-right: 5px; background: currentColor; }
.key .key-served::before { background: var(--bar); } .key .key-refused::before { background: var(--warn); }
.key .key-failed::before { background: var(--bad); }
.key .key-p50::before { background: var(--p50); height: 3px; vertical-align: 3px; }
.key .key-p99::before { background: var(--p99); height: 3px; vertical-align: 3px; }
.plot { display: grid; grid-template-columns: auto 1fr; grid-template-rows: 96px auto; gap: 2px 8px;
  color: var(--quiet); font-size: 12px; }
.plot svg { width: 100%; height: 96px; display: block; }
.plot .y { display: flex; flex-direction: column; justify-content: space-between; text-align: right; line-height: 1; }
.plot .x { grid-column: 2; display: flex; justify-content: space-between; }
svg .grid { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; fill: none; }
svg .served { fill: var(--bar); } svg .refused { fill: var(--warn); } svg .failed { fill: var(--bad); }
svg .p50, svg .p99 { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
svg .p50 { stroke: var(--p50); } svg .p99 { stroke: var(--p99); }
.rows { background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
table { width: 100%; border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: 7px 12px; border-bottom: 1px solid var(--faint); }
th { font-weight: 600; }
thead th { font-size: 13px; color: var(--quiet); border-bottom-color: var(--line); white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr:hover { background: var(--faint); }
.number { text-align: right; white-space: nowrap; padding-right: 24px; }
.sub { display: block; color: var(--quiet); font-size: 13px; font-weight: 400; overflow-wrap: anywhere; }
.name { overflow-wrap: anywhere; }
.when { white-space: nowrap; font-weight: 400; }
.error { color: var(--bad); overflow-wrap: anywhere; }
.empty { padding: 14px 16px; margin: 0; color: var(--quiet); }
details { background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
summary { padding: 9px 12px; cursor: pointer; font-weight: 600; }
summary small { font-weight: 400; color: var(--quiet); font-size: 13px; margin-left: 6px; }
details[open] summary { border-bottom: 1px solid var(--line); }
footer { color: var(--quiet); font-size: 13px; padding-top: 4px; padding-bottom: 32px; }
footer a { margin-right: 12px; }
@media (max-width: 1200px) { .tiles { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
@media (max-width: 560px) { .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (min-width: 1101px) {
  .roles th:nth-child(1), .errors th:nth-child(2), .settings th:nth-child(1) { width: 30%; }
  .roles td:nth-child(3) { white-space: nowrap; }
  .containers { table-layout: fixed; }
  .containers th:nth-child(1) { width: 12%; } .containers th:nth-child(2) { width: 20%; }
  .containers th:nth-child(3) { width: 150px; } .containers th:nth-child(4) { width: 16%; }
  .containers th:nth-child(5) { width: 155px; } .containers th:nth-child(6) { width: 105px; }
}
@media (max-width: 1100px) {
  .rows { background: none; border: 0; border-radius: 0; }
  table, tr, td, tbody th { display: block; }
  tbody { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 8px; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody tr { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 8px 12px; }
  details tbody tr { border-width: 0 0 1px; border-color: var(--faint); border-radius: 0; }
  td, tbody th { padding: 2px 0; border: 0; text-align: left; white-space: normal; }
  td[data-label] { display: grid; grid-template-columns: 92px minmax(0, 1fr); gap: 0 8px; }
  td[data-label]::before { content: attr(data-label); color: var(--quiet); font-size: 13px; }
  td.blank { display: none; }
  .number { text-align: left; }
  tbody th .sub.code { display: inline; margin-left: 6px; }
}
@media (max-width: 900px) {
  header, main, footer { padding-left: 12px; padding-right: 12px; }
  .refresh { margin-left: 0; width: 100%; }
  .charts { grid-template-columns: minmax(0, 1fr); gap: 12px; }
  .tile { padding: 10px 12px; }
}
@media (prefers-reduced-motion: no-preference) { .state.away::before { animation: pulse 2s infinite; } }
@keyframes pulse { 50% { opacity: .3; } }
@media print { .refresh, .skip { display: none; } body { background: none; } }
`;

// charts.js draws what the stats tell, of the last quarter of an hour.
import { byID, clock, element, millis, number, seconds } from './dom.js';

const keep = 900; // points, one a second

const fetched = (s) => Object.values(s.fetches_per_second).reduce((sum, n) => sum + n, 0);
const answered = (s) => (s.fetches_per_second.ok ?? 0) + (s.fetches_per_second.missing ?? 0);

// A chart is a title and up to four series: name, value of the stats, how to write it.
const charts = [
  ['Throughput, a second', ['callbacks accepted', (s) => s.accepted_per_second, number], ['objects fetched', fetched, number],
    ['objects stored', (s) => s.stored_online_per_second + s.stored_offline_per_second, number], ['objects expired', (s) => s.expired_per_second, number]],
  ['Acknowledgement, milliseconds', ['half are faster than', (s) => s.ack_p50_ms, millis], ['99 of 100 are faster than', (s) => s.ack_p99_ms, millis]],
  ['Inbox: callbacks that wait', ['callbacks', (s) => s.inbox_depth, number], ['ids', (s) => s.inbox_ids, number]],
  ['Inbox: age of the oldest, seconds', ['oldest', (s) => s.inbox_oldest_seconds, seconds]],
  ['Pool', ['fetches in flight', (s) => s.pool_in_flight, number], ['workers', (s) => s.pool_workers, number]],
  ['Source: fetches a second', ['answered', answered, number], ['failed', (s) => fetched(s) - answered(s), number], ['retries', (s) => s.retries_per_second, number]],
  ['Source: time of a fetch, milliseconds', ['half are faster than', (s) => s.fetch_p50_ms, millis], ['99 of 100 are faster than', (s) => s.fetch_p99_ms, millis]],
  ['Objects stored a second', ['online', (s) => s.stored_online_per_second, number], ['offline', (s) => s.stored_offline_per_second, number]],
];

const drawn = charts.map(([title, ...series]) => {
  const values = series.map(([name], i) => element('li', { class: `s${i + 1}` }, `${name}: –`));
  const canvas = element('div', { 'aria-hidden': 'true', class: 'chart' }); // the legend tells the same in words
  byID('figures').append(element('figure', {}, element('figcaption', {}, title), element('ul', { class: 'legend' }, ...values), canvas));
  return { series, values, canvas, data: [[], ...series.map(() => [])], plot: null };
});

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function plot(chart) {
  chart.plot?.destroy();
  const axis = { stroke: style('--quiet'), grid: { stroke: style('--line'), width: 1 }, ticks: { show: false } };
  chart.plot = new uPlot({
    width: Math.max(200, chart.canvas.clientWidth), height: 150, legend: { show: false }, cursor: { show: false },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
    axes: [{ ...axis, space: 90, size: 28, values: (_, ticks) => ticks.map((t) => clock(1000 * t)) }, { ...axis, size: 55, values: (_, ticks) => ticks.map((t) => number(t)) }],
    series: [{}, ...chart.series.map((_, i) => ({ stroke: style(`--c${i + 1}`), width: 1.5, points: { show: false }, spanGaps: true }))],
  }, chart.data, chart.canvas);
}

export function draw(at, stats) {
  const time = Date.parse(at) / 1000;
  for (const chart of drawn) {
    chart.data[0].push(time);
    chart.series.forEach(([name, value, write], i) => {
      const v = value(stats) ?? null;
      chart.data[i + 1].push(v);
      chart.values[i].textContent = `${name}: ${write(v)}`;
    });
    if (chart.data[0].length > keep) chart.data.forEach((points) => points.shift());
    if (!chart.plot) plot(chart);
    else if (!document.hidden) chart.plot.setData(chart.data);
  }
}

const again = () => drawn.forEach((chart) => chart.plot && plot(chart));
let resized = 0;
addEventListener('resize', () => {
  clearTimeout(resized);
  resized = setTimeout(again, 200);
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', again);

'use strict';
// The page is complete without this: it reads the charts out where the pointer is.
for (const group of document.querySelectorAll('[data-linked]')) {
  const figures = [...group.querySelectorAll('figure[data-read]')].map((figure) => ({
    rows: JSON.parse(figure.dataset.read),
    read: figure.querySelector('.read'),
    plots: [...figure.querySelectorAll('svg.chart')].map(plot),
  }));
  const show = (share) => {
    for (const { rows, read, plots } of figures) {
      const row = nearest(rows, share);
      if (!row) continue;
      read.textContent = row[1];
      for (const { cursor, left, right, top, bottom } of plots) {
        cursor.setAttribute('d', `M${(left + row[0] * (right - left)).toFixed(1)} ${top}V${bottom}`);
      }
    }
  };
  const hide = () => {
    for (const { read, plots } of figures) {
      read.textContent = '';
      for (const { cursor } of plots) cursor.removeAttribute('d');
    }
  };
  for (const { svg, left, right } of figures.flatMap((figure) => figure.plots)) {
    svg.addEventListener('pointermove', (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      show(Math.min(Math.max((x - left) / (right - left), 0), 1));
    });
    svg.addEventListener('pointerleave', hide);
  }
}

function plot(svg) {
  const [left, right, top, bottom] = svg.dataset.plot.split(' ').map(Number);
  const cursor = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  cursor.setAttribute('class', 'cursor');
  svg.append(cursor);
  // A title is also a tooltip, and would cover what it names.
  const title = svg.querySelector('title');
  svg.setAttribute('aria-label', title.textContent);
  title.remove();
  return { svg, cursor, left, right, top, bottom };
}

function nearest(rows, share) {
  let best;
  for (const row of rows) {
    if (!best || Math.abs(row[0] - share) < Math.abs(best[0] - share)) best = row;
  }
  return best;
}

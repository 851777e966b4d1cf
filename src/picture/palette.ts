/**
 * Names of the colours of pictures, which people with any kind of colour vision can tell apart.
 * [Okabe and Ito, Color Universal Design, 2008]
 */
export const tones = [
  'grey',
  'blue',
  'sky',
  'green',
  'orange',
  'vermilion',
  'purple',
  'ink',
] as const;
/** One of {@link tones}. */
export type Tone = (typeof tones)[number];

const light: Readonly<Record<Tone | 'paper' | 'faint' | 'muted', string>> = {
  ...{ grey: '#9aa3ad', blue: '#0072b2', sky: '#8fc6e8', green: '#00805d', orange: '#e69f00' },
  ...{ vermilion: '#d55e00', purple: '#a8478a', ink: '#1b1f24' },
  ...{ paper: '#ffffff', faint: '#e3e7eb', muted: '#59636e' },
};

const dark: typeof light = {
  ...{ grey: '#6b7580', blue: '#4aa8e0', sky: '#2b5f85', green: '#2dc79b', orange: '#f0b429' },
  ...{ vermilion: '#ff8748', purple: '#e08cc3', ink: '#e6e9ec' },
  ...{ paper: '#14181d', faint: '#2c333b', muted: '#9aa5b1' },
};

/** Style sheet of all pictures. A page with pictures needs it once. */
export const pictureStyle: string = [
  `:root{color-scheme:light dark;${variables(light)}}`,
  `@media (prefers-color-scheme:dark){:root{${variables(dark)}}}`,
  'svg.picture{display:block;width:100%;min-width:760px;height:auto;font:12px system-ui,sans-serif}',
  '.picture text{fill:var(--ink)}.picture .muted{fill:var(--muted)}.picture .inverse{fill:var(--paper)}',
  '.picture .grid{stroke:var(--faint);stroke-width:1}',
  '.picture .axis{stroke:var(--muted);stroke-width:1;fill:none}',
  '.picture .gap{fill:var(--paper)}.picture .lead{stroke:var(--muted);stroke-width:1;fill:none}',
  '.picture .mark{stroke:var(--paper);stroke-width:1.2;paint-order:stroke}',
  '.picture .line{fill:none;stroke-width:1.6;stroke-linejoin:round}',
  '.picture a:hover .span,.picture a:focus .span{opacity:.65}',
  ...tones.map((tone) => `.picture .${tone}{fill:var(--${tone})}`),
  ...tones.map((tone) => `.picture .stroke-${tone}{stroke:var(--${tone})}`),
].join('\n');

function variables(colours: Readonly<Record<string, string>>): string {
  return Object.entries(colours)
    .map(([name, colour]) => `--${name}:${colour}`)
    .join(';');
}

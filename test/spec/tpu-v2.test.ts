import { expect, test } from 'vitest';
import {
  chipsPerCloudTpu,
  coresPerCloudTpu,
  flopsPerSecondPerCore,
  hbmUsableBytesPerCore,
  iciBytesPerSecondPerLink,
  sliceFigures,
  tpuV2,
  vectorOpsPerSecondPerCore,
} from '../../src/spec/tpu-v2.ts';

const tera = 1e12;
const giga = 1e9;

test('a chip does 45 TFLOP/s, as published', () => {
  expect(flopsPerSecondPerCore / tera).toBeCloseTo(22.94, 2);
  expect(Math.floor((flopsPerSecondPerCore * tpuV2.coresPerChip) / tera)).toBe(45);
});

test('a Cloud TPU has four chips, 180 TFLOP/s, and 64 GB at 2400 GB/s', () => {
  const one = sliceFigures(1);
  expect(one).toMatchObject({ chips: 4, cores: 8 });
  expect(one.flopsPerSecond / tera).toBeCloseTo(180, -1);
  expect(one.hbmBytes).toBe(64 * 2 ** 30);
  expect(one.hbmBytesPerSecond).toBe(2400 * giga);
});

test('a pod has 16×16 chips, 512 cores, 11.5 PFLOP/s and 4 TB', () => {
  const pod = sliceFigures(tpuV2.cloudTpusPerPod);
  expect(pod).toMatchObject({ chips: 256, cores: 512 });
  expect(pod.chips).toBe(tpuV2.wrapAroundChips ** 2);
  // The published peak of a pod is 11.5 PFLOP/s: 64 Cloud TPUs with 180 TFLOP/s each. The peak that
  // follows from the clock and the number of multipliers of the MXU is 2 % higher.
  expect((180 * tera * 64) / 1e15).toBeCloseTo(11.5, 1);
  expect(pod.flopsPerSecond / (180 * tera * 64)).toBeCloseTo(1.02, 2);
  expect(pod.hbmBytes).toBe(4 * 2 ** 40);
});

test('figures of the parts of a core are consistent', () => {
  expect(tpuV2.mxuPassRows).toBe(tpuV2.mxuPassCycles);
  expect(tpuV2.mxuFillCycles).toBe(2 * tpuV2.mxuSide);
  expect(tpuV2.mxuSide).toBe(tpuV2.vectorLanes);
  expect(tpuV2.mxuPassRows).toBe(tpuV2.vectorSublanes);
  expect([tpuV2.tileSublanes, tpuV2.tileLanes]).toEqual([tpuV2.vectorSublanes, tpuV2.vectorLanes]);
  expect(tpuV2.vmemBytesPerCore).toBe(32 * 1024 * tpuV2.vectorLanes * 4);
  expect(tpuV2.smemBytesPerCore).toBe(4 * 1024 * 4);
  expect(vectorOpsPerSecondPerCore / tera).toBeCloseTo(1.43, 2);
  expect(hbmUsableBytesPerCore / 2 ** 30).toBeCloseTo(7.48, 2);
});

test('a link carries 62 GB/s each way', () => {
  expect(iciBytesPerSecondPerLink).toBe(62 * giga);
  expect(tpuV2.iciLinksPerChip).toBe(4);
});

test('figures of a slice are proportional to its number of Cloud TPUs', () => {
  const one = sliceFigures(1);
  const eight = sliceFigures(8);
  expect(chipsPerCloudTpu * tpuV2.coresPerChip).toBe(coresPerCloudTpu);
  for (const key of Object.keys(one) as (keyof typeof one)[]) expect(eight[key]).toBe(8 * one[key]);
});

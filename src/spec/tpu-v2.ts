/**
 * All figures of the hardware, each with its unit and its source in brackets. No other file in
 * `src` states a figure of the hardware. `test/spec` checks the relations between the figures. A
 * figure marked "assumed" is published nowhere that we know of.
 *
 * Sources:
 * - CACM 2020: N. Jouppi et al., "A Domain-Specific Supercomputer for Training Deep Neural
 *   Networks", Communications of the ACM 63(7), 2020.
 * - Hot Chips 2020: T. Norrie et al., "Google's Training Chips Revealed: TPUv2 and TPUv3", Hot
 *   Chips 32.
 * - IEEE Micro 2021: T. Norrie et al., "The Design Process for Google's Training Chips: TPUv2 and
 *   TPUv3", IEEE Micro 41(2).
 * - Ying 2018: C. Ying, "ImageNet is the new MNIST", a talk, 2018.
 * - Cloud TPU docs: https://cloud.google.com/tpu/docs.
 * - Cloud TPU performance guide: https://cloud.google.com/tpu/docs/performance-guide.
 * - MLPerf 0.5 entries: results of MLPerf Training 0.5, 2018.
 * - JAX scaling book: https://jax-ml.github.io/scaling-book.
 */
export const tpuV2 = {
  /** Clock of the cores. [CACM 2020] */
  clockHz: 700e6,
  /** TensorCores of a chip. [CACM 2020; Cloud TPU docs] */
  coresPerChip: 2,
  /** Matrix units (MXUs) of a core. [CACM 2020; Cloud TPU docs] */
  mxusPerCore: 1,
  /**
   * Published peak of a chip in bf16, in FLOP/s. The figure is rounded: 2 cores with 128×128
   * multipliers, 2 operations per cycle and multiplier, and 700 MHz give 45.9e12. [Ying 2018]
   */
  nominalFlopsPerSecondPerChip: 45e12,
  /** Side of the MXU's square array: 128×128 bf16 multipliers, f32 accumulators. [CACM 2020] */
  mxuSide: 128,
  /**
   * Number of rows of the left operand that the MXU takes in one pass, which is the matmul
   * bf16[8,128] × bf16[128,128]. [JAX scaling book]
   */
  mxuPassRows: 8,
  /**
   * Number of cycles of one pass of the MXU, which is the matmul bf16[8,128] × bf16[128,128]. [JAX
   * scaling book]
   */
  mxuPassCycles: 8,
  /**
   * Number of cycles from the first input of the MXU to its first sum: data move through 128 cells
   * to the right and 128 cells down. [assumed]
   */
  mxuFillCycles: 256,

  /** Lanes of the vector unit. [Hot Chips 2020] */
  vectorLanes: 128,
  /** Sublanes of each lane of the vector unit. [Hot Chips 2020] */
  vectorSublanes: 8,
  /** f32 arithmetic units of each sublane of each lane. [Hot Chips 2020] */
  vectorAlus: 2,
  /** Vector registers of a core, each of 8×128 words of 32 bits. [Hot Chips 2020] */
  vectorRegisters: 32,

  /** HBM of a core: 8 GiB, half of a chip's 16 GiB. [Cloud TPU docs] */
  hbmBytesPerCore: 8_589_934_592,
  /**
   * HBM of a core that the system reserves: 528 MiB. [messages of XLA about full HBM, published by
   * users of TPU v2; some messages say 530 MiB]
   */
  hbmReservedBytesPerCore: 553_648_128,
  /**
   * Peak bandwidth of a chip's HBM, in bytes per second. [Ying 2018] The Cloud profiler showed
   * 2416e9 for a Cloud TPU, which is 604e9 for each of its four chips. CACM 2020 says 700e9.
   */
  hbmBytesPerSecondPerChip: 600e9,
  /**
   * Number of rows of a tile. An array in HBM is padded so that it consists of whole tiles of 8×128
   * elements. [Cloud TPU performance guide]
   */
  tileSublanes: 8,
  /** Number of columns of a tile of an array in HBM. [Cloud TPU performance guide] */
  tileLanes: 128,

  /** Vector memory (VMEM): 32 Ki × 128 words of 32 bits. [Hot Chips 2020] */
  vmemBytesPerCore: 16_777_216,
  /** Scalar memory (SMEM): 4 Ki words of 32 bits. [Hot Chips 2020] */
  smemBytesPerCore: 16_384,

  /** Width of an instruction (VLIW bundle). [IEEE Micro 2021] */
  instructionBits: 322,
  /** Largest number of operations of each kind in one instruction. [IEEE Micro 2021] */
  instructionSlots: { scalar: 2, vector: 4, matrixPush: 1, matrixPop: 1, misc: 1, immediates: 6 },
  /**
   * Largest number of loads and stores among the vector operations of one instruction. [IEEE Micro
   * 2021]
   */
  vectorMemorySlots: 2,

  /** ICI links of a chip: left, right, up, down. [CACM 2020] */
  iciLinksPerChip: 4,
  /** Bandwidth of an ICI link in each direction. [CACM 2020] */
  iciBitsPerSecondPerLink: 496e9,
  /**
   * Latency of one hop (one ICI link). Not published for TPU v2; later generations have about 1 µs.
   * [JAX scaling book]
   */
  iciHopSeconds: 1e-6,

  /**
   * Number of columns of chips in a Cloud TPU. A Cloud TPU is a board of 2×2 chips, with its host.
   * [Cloud TPU docs]
   */
  chipColumnsPerCloudTpu: 2,
  /** Number of rows of chips in a Cloud TPU. [Cloud TPU docs] */
  chipRowsPerCloudTpu: 2,
  /** Number of Cloud TPUs in a whole pod, which has 16×16 chips. [Ying 2018; CACM 2020] */
  cloudTpusPerPod: 64,
  /**
   * Number of columns of chips in a whole pod, and number of rows. The pod is a torus. [CACM 2020]
   */
  podChipColumns: 16,
  podChipRows: 16,
  /**
   * Number of chips along an axis that has a wrap-around link. A shorter axis has none, so only a
   * whole pod has wrap-around links along both axes. [assumed]
   */
  wrapAroundChips: 16,

  /** Thermal design power of a chip. [CACM 2020] */
  wattsPerChip: 280,
  /** Virtual CPUs of a Cloud TPU's host. [MLPerf 0.5 entries] */
  hostVcpusPerCloudTpu: 32,
} as const;

/** Totals of a slice: counts, peak rates, memory and power of all its Cloud TPUs together. */
export interface SliceFigures {
  readonly cloudTpus: number;
  readonly chips: number;
  readonly cores: number;
  /**
   * Peak of all MXUs together, in bf16 operations per second. A multiplication with an addition
   * counts as two operations.
   */
  readonly flopsPerSecond: number;
  readonly hbmBytes: number;
  /** Bytes of HBM that programs can use: `hbmBytes` minus what the system reserves. */
  readonly hbmUsableBytes: number;
  readonly hbmBytesPerSecond: number;
  readonly watts: number;
}

/** Returns the totals of a slice of `cloudTpus` Cloud TPUs. */
export function sliceFigures(cloudTpus: number): SliceFigures {
  const chips = cloudTpus * chipsPerCloudTpu;
  const cores = chips * tpuV2.coresPerChip;
  return {
    cloudTpus,
    chips,
    cores,
    flopsPerSecond: cores * flopsPerSecondPerCore,
    hbmBytes: cores * tpuV2.hbmBytesPerCore,
    hbmUsableBytes: cores * hbmUsableBytesPerCore,
    hbmBytesPerSecond: chips * tpuV2.hbmBytesPerSecondPerChip,
    watts: chips * tpuV2.wattsPerChip,
  };
}

/** Chips of a Cloud TPU: 4. */
export const chipsPerCloudTpu: number = tpuV2.chipColumnsPerCloudTpu * tpuV2.chipRowsPerCloudTpu;

/** Cores of a Cloud TPU: 8. Each core runs one replica of the program. */
export const coresPerCloudTpu: number = chipsPerCloudTpu * tpuV2.coresPerChip;

/**
 * Peak of a core in bf16: 22.94 TFLOP/s. Each multiplier of the MXU executes two operations per
 * cycle, a multiplication and an addition.
 */
export const flopsPerSecondPerCore: number =
  2 * tpuV2.mxusPerCore * tpuV2.mxuSide ** 2 * tpuV2.clockHz;

/** Peak of a core's vector unit, in f32 operations per second. */
export const vectorOpsPerSecondPerCore: number =
  tpuV2.vectorLanes * tpuV2.vectorSublanes * tpuV2.vectorAlus * tpuV2.clockHz;

/** Bytes of a core's HBM that a program may use. */
export const hbmUsableBytesPerCore: number = tpuV2.hbmBytesPerCore - tpuV2.hbmReservedBytesPerCore;

/** Bandwidth of an ICI link in each direction: 62 GB/s. */
export const iciBytesPerSecondPerLink: number = tpuV2.iciBitsPerSecondPerLink / 8;

import { assert } from '../../numerics/assert.ts';
import {
  i32Const,
  ifThen,
  localGet,
  localSet,
  loopWhile,
  scalar,
  unsigned,
  type ValueType,
  type WasmFunction,
} from './wasm.ts';

/*
 * A function while it is written: values, and effects (stores, loops, assignments) in order. A
 * value is computed once, in the outermost loop in which all its operands are known. The encoder
 * puts a value into a WASM local if the value is used more than once or in an inner loop. Any other
 * value becomes part of the expression that uses it.
 */

/**
 * A value: the result of a pure instruction. `code` takes the operands off the WASM stack and
 * leaves the result on the stack.
 */
export interface Node {
  readonly id: number;
  readonly type: ValueType;
  readonly code: readonly number[];
  readonly operands: readonly Node[];
  readonly block: Block;
  /**
   * True for constants and reads of locals. Such values are cheap: the code repeats them at each
   * use, and no local holds them.
   */
  readonly inline: boolean;
}

/** A WASM local whose value changes: the counter of a loop, or the accumulator of a reduction. */
export interface Cell {
  readonly type: ValueType;
  readonly local: number;
}

/** The body of a loop, or the body of the whole function. */
export interface Block {
  readonly parent: Block | undefined;
  readonly depth: number;
  /** How many times the block runs in one call of the function. */
  readonly trips: number;
  readonly items: Item[];
  /**
   * Position in the parent block: the index, in the parent's `items`, of the loop whose body is
   * this block. Set when the loop is complete.
   */
  index: number;
}

/**
 * A store to memory. `address` is an i32 byte address. `code` takes the address and the value off
 * the WASM stack.
 */
export interface Store {
  readonly address: Node;
  readonly value: Node;
  readonly code: readonly number[];
}

type Effect =
  | { readonly kind: 'stores'; readonly stores: readonly Store[]; readonly when: Node | undefined }
  | { readonly kind: 'assign'; readonly cells: readonly Cell[]; readonly values: readonly Node[] }
  | Loop;
interface Loop {
  readonly kind: 'loop';
  readonly body: Block;
  readonly counter: Cell;
  readonly start: number;
  readonly limit: number;
  readonly step: number;
}
type Item = { readonly kind: 'node'; readonly node: Node } | Effect;

/** Writes one WASM function that takes i32 parameters and returns nothing. */
export class FunctionBuilder {
  readonly root: Block = { parent: undefined, depth: 0, trips: 1, items: [], index: 0 };
  readonly #parameters: number;
  readonly #locals: ValueType[] = [];
  readonly #known = new Map<string, Node>();
  #nodes = 0;

  constructor(parameters: number) {
    this.#parameters = parameters;
  }

  /** How many values have been written so far, as a measure of the function's size. */
  get size(): number {
    return this.#nodes;
  }

  parameter(index: number): Node {
    return this.#intern('i32', localGet(index), [], true);
  }

  i32(value: number): Node {
    return this.#intern('i32', i32Const(value), [], true);
  }

  /**
   * Returns the value of an instruction. Instructions with equal code and equal operands share one
   * value.
   */
  node(type: ValueType, code: readonly number[], ...operands: readonly Node[]): Node {
    return this.#intern(type, code, operands, false);
  }

  /**
   * Adds an instruction to `block` and returns its value. The instruction runs anew each time that
   * `block` runs, and shares its value with no other instruction. Used for loads from addresses to
   * which the generated code also stores.
   */
  freshNode(
    block: Block,
    type: ValueType,
    code: readonly number[],
    ...operands: readonly Node[]
  ): Node {
    return this.#append(type, code, operands, block, false);
  }

  cell(type: ValueType): Cell {
    this.#locals.push(type);
    return { type, local: this.#parameters + this.#locals.length - 1 };
  }

  /**
   * Returns a read of a cell (a local that changes) in `block`. Each use of the result reads the
   * cell anew, with the value that the cell has at that time.
   */
  read(cell: Cell, block: Block): Node {
    return this.#append(cell.type, localGet(cell.local), [], block, true);
  }

  /**
   * Assigns values to cells (locals that change). All values are computed before the first cell
   * changes.
   */
  assign(block: Block, cells: readonly Cell[], values: readonly Node[]): void {
    assert(cells.length === values.length, `${values.length} values for ${cells.length} cells`);
    block.items.push({ kind: 'assign', cells, values });
  }

  /**
   * Adds stores. If `when` is given, the stores run only if `when` is not 0. All values are
   * computed before the first store.
   */
  store(block: Block, stores: readonly Store[], when?: Node): void {
    block.items.push({ kind: 'stores', stores, when });
  }

  /**
   * Adds a loop with the counter values start, start + step, … below `limit`. The loop must run at
   * least once. `body` writes the content of the loop.
   */
  loop(
    parent: Block,
    range: { readonly start: number; readonly limit: number; readonly step: number },
    body: (block: Block, counter: Node) => void,
  ): void {
    const count = Math.ceil((range.limit - range.start) / range.step);
    assert(count > 0, `a loop from ${range.start} to ${range.limit} never runs`);
    const block: Block = {
      parent,
      depth: parent.depth + 1,
      trips: parent.trips * count,
      items: [],
      index: 0,
    };
    const counter = this.cell('i32');
    body(block, this.read(counter, block));
    block.index = parent.items.length;
    parent.items.push({ kind: 'loop', body: block, counter, ...range });
  }

  finish(exported: string): WasmFunction {
    const uses = countUses(this.root);
    const lives = lifetimes(uses);
    const encoder = new Encoder(this.#parameters, this.#locals, uses.uses, lives);
    const code = encoder.block(this.root);
    const parameters = new Array<ValueType>(this.#parameters).fill('i32');
    return { parameters, results: [], locals: encoder.locals, code, exported };
  }

  #intern(
    type: ValueType,
    code: readonly number[],
    operands: readonly Node[],
    inline: boolean,
  ): Node {
    const key = `${code.join(',')}|${operands.map((it) => it.id).join(',')}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const made = this.#append(type, code, operands, deepest(operands, this.root), inline);
    this.#known.set(key, made);
    return made;
  }

  #append(
    type: ValueType,
    code: readonly number[],
    operands: readonly Node[],
    block: Block,
    inline: boolean,
  ): Node {
    const node: Node = { id: this.#nodes++, type, code, operands, block, inline };
    block.items.push({ kind: 'node', node });
    return node;
  }
}

/**
 * Each of `nodes` is computed in a block. Returns the innermost of these blocks, or `root` if there
 * are no nodes. Of any two of these blocks, one must contain the other.
 */
function deepest(nodes: readonly Node[], root: Block): Block {
  return nodes.reduce((best, { block }) => (block.depth > best.depth ? block : best), root);
}

interface Uses {
  /**
   * Values that stores and assignments need, directly or through other values. Users come before
   * operands.
   */
  readonly nodes: readonly Node[];
  readonly uses: ReadonlyMap<Node, Use>;
}
interface Use {
  count: number;
  /**
   * True if the value needs a local even if the value is used only once. There are two such cases.
   * An inner loop uses the value. Or the value is stored together with others: all of these values
   * are computed before the first store, so each must be kept until its own store.
   */
  far: boolean;
  /** In the block that computes the value: index of the last item that needs the value. */
  last: number;
}

function countUses(root: Block): Uses {
  const uses = new Map<Node, Use>();
  const order: Node[] = [];
  const use = (node: Node, user: Block, index: number, hold: boolean): void => {
    const known = uses.get(node) ?? { count: 0, far: false, last: -1 };
    const fresh = known.count === 0;
    known.count++;
    known.far ||= hold || node.block !== user;
    known.last = Math.max(known.last, node.block === user ? index : itemAround(node.block, user));
    uses.set(node, known);
    if (fresh) {
      order.push(node);
      // The item that uses `operand` is the item that computes `node`. The index of that item is
      // not known yet. −1 stands for the index until `lifetimes` finds it.
      for (const operand of node.operands) use(operand, node.block, -1, false);
    }
  };
  visitEffects(root, (effect, block, index) => {
    for (const { node, hold } of operandsOf(effect)) use(node, block, index, hold);
  });
  return { nodes: order.sort((a, b) => b.id - a.id), uses };
}

function operandsOf(effect: Effect): { readonly node: Node; readonly hold: boolean }[] {
  if (effect.kind === 'loop') return [];
  if (effect.kind === 'assign') return effect.values.map((node) => ({ node, hold: false }));
  const several = effect.stores.length > 1;
  const stored = effect.stores.flatMap(({ address, value }) => [
    { node: address, hold: false },
    { node: value, hold: several },
  ]);
  return effect.when === undefined ? stored : [{ node: effect.when, hold: false }, ...stored];
}

function visitEffects(
  block: Block,
  visit: (effect: Effect, block: Block, index: number) => void,
): void {
  block.items.forEach((item, index) => {
    if (item.kind === 'node') return;
    visit(item, block, index);
    if (item.kind === 'loop') visitEffects(item.body, visit);
  });
}

/** Returns the index, in the items of `outer`, of the loop that contains `inner`. */
function itemAround(outer: Block, inner: Block): number {
  let child = inner;
  while (child.parent !== outer) {
    assert(child.parent !== undefined, 'a value is used outside its loop');
    child = child.parent;
  }
  return child.index;
}

function needsLocal(node: Node, { count, far }: Use): boolean {
  return !node.inline && (count > 1 || far);
}

/**
 * Finds after which item of a block the local of a value becomes free. Returns a map for each
 * block. The keys of this map are indices of items. The entry of an item has the values that the
 * item needs and that no later item needs: their locals are free after the item. An item after
 * which no local becomes free has no entry.
 */
function lifetimes({ nodes, uses }: Uses): ReadonlyMap<Block, ReadonlyMap<number, Node[]>> {
  const positions = new Map<Block, Map<Node, number>>();
  const ends = new Map<Block, Map<number, Node[]>>();
  for (const node of nodes) {
    const use = uses.get(node)!;
    const local = needsLocal(node, use);
    const position = local ? positionOf(positions, node) : use.last;
    for (const operand of node.operands) {
      const its = uses.get(operand)!;
      const there = operand.block === node.block ? position : itemAround(operand.block, node.block);
      its.last = Math.max(its.last, there);
    }
    if (!local) continue;
    const block = ends.get(node.block) ?? new Map<number, Node[]>();
    ends.set(node.block, block);
    block.set(use.last, [...(block.get(use.last) ?? []), node]);
  }
  return ends;
}

function positionOf(positions: Map<Block, Map<Node, number>>, node: Node): number {
  let known = positions.get(node.block);
  if (known === undefined) {
    known = new Map();
    positions.set(node.block, known);
    for (const [i, item] of node.block.items.entries()) {
      if (item.kind === 'node') known.set(item.node, i);
    }
  }
  return known.get(node)!;
}

class Encoder {
  readonly locals: ValueType[];
  readonly #parameters: number;
  readonly #uses: ReadonlyMap<Node, Use>;
  readonly #ends: ReadonlyMap<Block, ReadonlyMap<number, Node[]>>;
  readonly #held = new Map<Node, number>();
  readonly #free: Record<ValueType, number[]> = { i32: [], f32: [], f64: [], v128: [] };

  constructor(
    parameters: number,
    cells: readonly ValueType[],
    uses: ReadonlyMap<Node, Use>,
    ends: ReadonlyMap<Block, ReadonlyMap<number, Node[]>>,
  ) {
    this.#parameters = parameters;
    this.locals = [...cells];
    this.#uses = uses;
    this.#ends = ends;
  }

  block(block: Block): number[] {
    const code: number[] = [];
    const ends = this.#ends.get(block);
    for (const [index, item] of block.items.entries()) {
      for (const byte of this.#item(item)) code.push(byte);
      for (const node of ends?.get(index) ?? []) this.#free[node.type].push(this.#held.get(node)!);
    }
    return code;
  }

  #item(item: Item): number[] {
    switch (item.kind) {
      case 'node':
        return this.#hold(item.node);
      case 'assign':
        return [
          ...item.values.flatMap((value) => this.#value(value)),
          ...item.cells.toReversed().flatMap(({ local }) => localSet(local)),
        ];
      case 'stores': {
        const stores = item.stores.flatMap(({ address, value, code }) => [
          ...this.#value(address),
          ...this.#value(value),
          ...code,
        ]);
        return item.when === undefined ? stores : [...this.#value(item.when), ...ifThen(stores)];
      }
      case 'loop':
        return this.#loop(item);
    }
  }

  #hold(node: Node): number[] {
    const use = this.#uses.get(node);
    if (use === undefined || !needsLocal(node, use)) return [];
    const code = this.#expression(node);
    const local = this.#free[node.type].pop() ?? this.#newLocal(node.type);
    this.#held.set(node, local);
    return [...code, ...localSet(local)];
  }

  #newLocal(type: ValueType): number {
    this.locals.push(type);
    return this.#parameters + this.locals.length - 1;
  }

  #value(node: Node): number[] {
    const local = this.#held.get(node);
    return local === undefined ? this.#expression(node) : localGet(local);
  }

  #expression(node: Node): number[] {
    return [...node.operands.flatMap((operand) => this.#value(operand)), ...node.code];
  }

  #loop({ body, counter, start, limit, step }: Loop): number[] {
    const first = [...i32Const(start), ...localSet(counter.local)];
    const once = this.block(body);
    if (start + step >= limit) return [...first, ...once];
    const next = [
      ...localGet(counter.local),
      ...i32Const(step),
      scalar.i32Add,
      ...[0x22, ...unsigned(counter.local)],
      ...i32Const(limit),
      scalar.i32LtS,
    ];
    return [...first, ...loopWhile([...once, ...next])];
  }
}

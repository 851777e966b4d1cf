import { fusion, getTupleElement, parameter, tuple } from '../../hlo/build.ts';
import {
  binaryOpcodes,
  type HloComputation,
  type HloInstruction,
  type HloModule,
  type Opcode,
  type Parameter,
  unaryOpcodes,
  type WindowDimension,
} from '../../hlo/instruction.ts';
import { postOrder, withOperands } from '../../hlo/traverse.ts';
import { assert, at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import { type ArrayShape, elementCount, isArray, sameDims } from '../../numerics/shape.ts';
import { variesByCore } from '../sharing.ts';

/** Whether a body makes a loop: true, or why not. */
export type FusedLoopSupport = (body: HloComputation) => true | string;

/**
 * Gathers element-wise operations, changes of shape and reductions into loops, users first: an
 * instruction joins the loop of its user when that is the only one, or all of them when it is
 * cheap to do twice; an array that both a loop computes and others need becomes one more output of
 * it. What no loop takes becomes a loop of its own; a reshape of an array in memory costs nothing
 * and stays outside.
 */
export function fuse(module: HloModule, supports: FusedLoopSupport): HloModule {
  const plan = planGroups(module.entry, supports);
  return { ...module, entry: { ...module.entry, root: rebuilt(module.entry.root, plan) } };
}

/** A loop in the making: `outputs[0]` is what it was started for; all have its index space. */
interface Group {
  readonly outputs: HloInstruction[];
  readonly members: Set<HloInstruction>;
  readonly varies: boolean;
}

class Plan {
  /** The groups that compute an instruction; none for what stays outside. */
  readonly groupsOf: Map<HloInstruction, Group[]> = new Map();
  /** The group whose output an instruction is. */
  readonly outputOf: Map<HloInstruction, Group> = new Map();
  readonly usersOf: Map<HloInstruction, HloInstruction[]>;
  readonly varies: ReadonlySet<HloInstruction>;
  readonly supports: FusedLoopSupport;

  constructor(order: readonly HloInstruction[], supports: FusedLoopSupport) {
    this.usersOf = new Map(order.map((it) => [it, []]));
    for (const it of order) for (const x of it.operands) this.usersOf.get(x)!.push(it);
    this.varies = variesByCore(order);
    this.supports = supports;
  }

  groups(it: HloInstruction): readonly Group[] {
    return this.groupsOf.get(it) ?? [];
  }

  /** Whether `it` is in memory for those who need it. */
  inMemory(it: HloInstruction): boolean {
    return this.outputOf.has(it) || this.groups(it).length === 0;
  }

  join(it: HloInstruction, group: Group): void {
    group.members.add(it);
    this.groupsOf.set(it, [...this.groups(it), group]);
  }

  leave(it: HloInstruction, group: Group): void {
    group.members.delete(it);
    this.groupsOf.set(
      it,
      this.groups(it).filter((other) => other !== group),
    );
  }
}

function planGroups(entry: HloComputation, supports: FusedLoopSupport): Plan {
  const order = postOrder(entry.root);
  const plan = new Plan(order, supports);
  for (const it of order.toReversed()) if (isFusible(it)) place(plan, it, it === entry.root);
  return plan;
}

const elementwise: ReadonlySet<Opcode> = new Set<Opcode>([
  ...unaryOpcodes,
  ...binaryOpcodes,
  'compare',
  'select',
  'clamp',
  'convert',
  'bitcast-convert',
]);
const indexing: ReadonlySet<Opcode> = new Set<Opcode>([
  'broadcast',
  'iota',
  'reshape',
  'transpose',
  'slice',
  'pad',
  'concatenate',
  'reverse',
]);
const reducing: ReadonlySet<Opcode> = new Set<Opcode>([
  'reduce',
  'reduce-window',
  'select-and-scatter',
]);

function isFusible({ opcode }: HloInstruction): boolean {
  return elementwise.has(opcode) || indexing.has(opcode) || reducing.has(opcode);
}

/** Decides where one instruction is computed; its users are decided. */
function place(plan: Plan, it: HloInstruction, isRoot: boolean): void {
  const users = plan.usersOf.get(it)!;
  const groups = [...new Set(users.flatMap((user) => plan.groups(user)))];
  const needed = isRoot || users.some((user) => needsMemory(plan, user));
  if (!needed && (groups.length === 1 || isCheap(it)) && joinAll(plan, it, groups)) return;
  if (it.opcode === 'reshape') return;
  for (const group of groups) if (joinAsOutput(plan, it, group)) return;
  startGroup(plan, it);
}

/** What runs outside of loops reads its operands from memory; so does a reshape that stays there. */
function needsMemory(plan: Plan, user: HloInstruction): boolean {
  return plan.groups(user).length === 0;
}

function startGroup(plan: Plan, it: HloInstruction): void {
  const group: Group = { outputs: [it], members: new Set(), varies: plan.varies.has(it) };
  plan.join(it, group);
  plan.outputOf.set(it, group);
  const verdict = plan.supports(bodyOf(plan, group).body);
  if (verdict === true) return;
  const name = it.name === undefined ? it.opcode : `${it.opcode} ${it.name}`;
  throw new PodError('unsupported-program', `${name}: ${verdict}`);
}

/** Computes `it` inside of all the groups, if every one of them can take it. */
function joinAll(plan: Plan, it: HloInstruction, groups: readonly Group[]): boolean {
  const joined: Group[] = [];
  for (const group of groups) {
    if (!pays(plan, it, group) || !tryJoin(plan, it, group)) {
      for (const other of joined) plan.leave(it, other);
      return false;
    }
    joined.push(group);
  }
  return true;
}

function tryJoin(plan: Plan, it: HloInstruction, group: Group): boolean {
  plan.join(it, group);
  const { body, operands } = bodyOf(plan, group);
  const fits = group.members.size <= membersMax && operands.length <= operandsMax;
  if (fits && plan.supports(body) === true) return true;
  plan.leave(it, group);
  return false;
}

/** Bounds on a loop, so that it keeps to a sane number of locals and addresses. */
const membersMax = 160;
const operandsMax = 24;

/** Whether computing `it` inside of the group costs no more than a trip through memory. */
function pays(plan: Plan, it: HloInstruction, group: Group): boolean {
  if (isCheap(it)) return true;
  if (group.varies && !plan.varies.has(it)) return false;
  const users = plan.usersOf.get(it)!.filter((user) => group.members.has(user));
  if (reducing.has(it.opcode)) {
    return users.every((user) => isSameSize(user, it) && isAtIndex(plan, user, group));
  }
  return users.every((user) => !repeats(user, it));
}

/** Whether `user` asks for an element of `it` more than once. */
function repeats(user: HloInstruction, it: HloInstruction): boolean {
  switch (user.opcode) {
    case 'broadcast':
      return elementCount(user.shape) > elementCount(it.shape as ArrayShape);
    case 'reduce-window':
    case 'select-and-scatter':
      return user.window.some(overlaps);
    case 'reduce':
      return isInit(user, it);
    case 'pad':
      return at(user.operands, 1) === it;
    case 'clamp':
      return !isSameSize(user, it);
    default:
      return false;
  }
}

function isSameSize(a: HloInstruction, b: HloInstruction): boolean {
  return isArray(a.shape) && isArray(b.shape) && sameDims(a.shape.dims, b.shape.dims);
}

function overlaps({ size, stride }: WindowDimension): boolean {
  return stride < size;
}

function isInit(user: HloInstruction, it: HloInstruction): boolean {
  return user.operands.slice(user.operands.length / 2).includes(it);
}

/** Index arithmetic, and comparisons with one value: as quick to do as to read. */
function isCheap(it: HloInstruction): boolean {
  switch (it.opcode) {
    case 'broadcast':
    case 'iota':
    case 'reshape':
    case 'slice':
      return true;
    case 'compare':
      return it.operands.some((x) => x.opcode === 'broadcast' && x.dimensions.length === 0);
    default:
      return false;
  }
}

/** Whether `it` is computed at the very index of the outputs, through element-wise users alone. */
function isAtIndex(plan: Plan, it: HloInstruction, group: Group): boolean {
  if (!elementwise.has(it.opcode)) return false;
  const { dims } = at(group.outputs, 0).shape as ArrayShape;
  const seen = new Set<HloInstruction>();
  const pending = [it];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    if (!elementwise.has(next.opcode) || !sameDims((next.shape as ArrayShape).dims, dims)) {
      return false;
    }
    if (group.outputs.includes(next)) continue;
    pending.push(...plan.usersOf.get(next)!.filter((user) => group.members.has(user)));
  }
  return true;
}

/** Makes `it` one more output of a group that computes it anyway. */
function joinAsOutput(plan: Plan, it: HloInstruction, group: Group): boolean {
  if (!elementwise.has(it.opcode) || group.varies !== plan.varies.has(it)) return false;
  const users = plan.usersOf.get(it)!;
  const inside = users.filter((user) => group.members.has(user));
  const atIndex = (user: HloInstruction): boolean =>
    isSameSize(user, it) && isAtIndex(plan, user, group);
  if (!inside.every(atIndex)) return false;
  const others = users.filter((user) => !group.members.has(user));
  if (reaches(plan, others, group)) return false;
  group.outputs.push(it);
  plan.outputOf.set(it, group);
  if (tryJoin(plan, it, group)) return true;
  group.outputs.pop();
  plan.outputOf.delete(it);
  return false;
}

/** Whether the group needs, by whatever way, a result of one of `starts`. */
function reaches(plan: Plan, starts: readonly HloInstruction[], group: Group): boolean {
  const seen = new Set<HloInstruction>();
  const pending = [...starts];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (group.members.has(next)) return true;
    if (seen.has(next)) continue;
    seen.add(next);
    pending.push(...plan.usersOf.get(next)!);
    for (const within of plan.groups(next)) {
      for (const output of within.outputs) pending.push(...plan.usersOf.get(output)!);
    }
  }
  return false;
}

interface Body {
  readonly body: HloComputation;
  /** What the body's parameters stand for, in order. */
  readonly operands: readonly HloInstruction[];
}

/**
 * The group as a computation. Scalar constants go along; a reshape whose operand lies in memory
 * stays outside, where it costs nothing.
 */
function bodyOf(plan: Plan, group: Group): Body {
  const inside = innerOrder(plan, group);
  const copies = new Map<HloInstruction, HloInstruction>();
  const operands: HloInstruction[] = [];
  const parameters: Parameter[] = [];
  for (const it of inside) {
    const copied = it.operands.map((x) => copies.get(x) ?? copyOf(x));
    copies.set(it, withOperands(it, copied));
  }
  const outputs = group.outputs.map((it) => copies.get(it)!);
  const root = outputs.length === 1 ? at(outputs, 0) : tuple(outputs);
  return { body: { name: 'loop', parameters, root }, operands };

  function copyOf(x: HloInstruction): HloInstruction {
    const copy = isScalarConstant(x) ? x : parameterFor(x);
    copies.set(x, copy);
    return copy;
  }

  function parameterFor(x: HloInstruction): Parameter {
    const made = parameter(operands.length, x.shape, x.name);
    operands.push(x);
    parameters.push(made);
    return made;
  }
}

function isScalarConstant(it: HloInstruction): boolean {
  return it.opcode === 'constant' && it.shape.dims.length === 0;
}

/** The members that are computed inside, operands before users. */
function innerOrder(plan: Plan, group: Group): HloInstruction[] {
  const isInner = (it: HloInstruction): boolean =>
    group.members.has(it) && (group.outputs.includes(it) || !isFreeReshape(plan, it, group));
  const order: HloInstruction[] = [];
  const seen = new Set<HloInstruction>();
  const path: { readonly it: HloInstruction; next: number }[] = [];
  for (const output of group.outputs) {
    if (!seen.has(output)) enter(output);
    while (path.length > 0) {
      const top = path[path.length - 1]!;
      const operand = top.it.operands[top.next++];
      if (operand === undefined) order.push(path.pop()!.it);
      else if (!seen.has(operand) && isInner(operand)) enter(operand);
    }
  }
  return order;

  function enter(it: HloInstruction): void {
    seen.add(it);
    path.push({ it, next: 0 });
  }
}

function isFreeReshape(plan: Plan, it: HloInstruction, group: Group): boolean {
  if (it.opcode !== 'reshape') return false;
  const x = at(it.operands, 0);
  return !group.members.has(x) || isFreeReshape(plan, x, group);
}

/** The entry with a fusion for each group, made in an order in which operands come first. */
function rebuilt(root: HloInstruction, plan: Plan): HloInstruction {
  const made = new Map<HloInstruction, HloInstruction>();
  const opened = new Set<HloInstruction>();
  const pending = [root];
  for (let it = pending.at(-1); it !== undefined; it = pending.at(-1)) {
    const group = plan.outputOf.get(it);
    const body = group && bodyOf(plan, group);
    const missing = (body?.operands ?? it.operands).filter((x) => !made.has(x));
    if (made.has(it) || missing.length === 0) {
      pending.pop();
      if (!made.has(it)) finish(it, group, body);
    } else {
      assert(!opened.has(it), `${it.name ?? it.opcode} needs itself: loops joined in a circle`);
      opened.add(it);
      pending.push(...missing);
    }
  }
  return made.get(root)!;

  function finish(it: HloInstruction, group: Group | undefined, body: Body | undefined): void {
    if (group === undefined || body === undefined) {
      made.set(
        it,
        withOperands(
          it,
          it.operands.map((x) => made.get(x)!),
        ),
      );
    } else {
      emitFusion(group, body);
    }
  }

  function emitFusion(group: Group, { body, operands }: Body): void {
    const first = at(group.outputs, 0);
    const kind = [...group.members].some(({ opcode }) => reducing.has(opcode)) ? 'reduce' : 'loop';
    const loop = fusion(
      kind,
      operands.map((x) => made.get(x)!),
      body,
    );
    const named = { ...loop, name: first.name ?? first.opcode };
    group.outputs.forEach((output, i) => {
      const one = group.outputs.length === 1 ? named : getTupleElement(named, i);
      made.set(output, { ...one, name: output.name ?? named.name });
    });
  }
}

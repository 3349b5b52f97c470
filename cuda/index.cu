// Reading by index moves packs where an index picks rows. Writing goes one of two ways: along dim in order, a thread a
// lane, where that is short; else the places are sorted, so that what meets in one place stands together (see
// docs/cuda_rows.md). Either way values meet in the order of the index, and no addition is atomic.
#include <weft/cuda/rows.cuh>

#include <thrust/iterator/counting_iterator.h>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_select.cuh>

#include <bit>

namespace weft::cuda {

namespace {

// x with dimension dim standing still, in the shape of the index.
Tensor without_dim(const Tensor& x, int64_t dim, const Shape& shape) {
  Shape strides = x.strides();
  strides[dim] = 0;
  return as_strided_raw(x, shape, strides, x.impl().offset);
}

// Elements that are only moved: one type a size.
template <class F>
void dispatch_size(DType d, F&& f) {
  switch (size_of(d)) {
    case 8:
      return f(Type<uint64_t>{});
    case 4:
      return f(Type<uint32_t>{});
    case 2:
      return f(Type<uint16_t>{});
    default:
      return f(Type<uint8_t>{});
  }
}

__device__ bool inside(int64_t id, int64_t size) { return static_cast<uint64_t>(id) < static_cast<uint64_t>(size); }

// The most bytes, up to 16, that divide all of these.
int pack_bytes(std::initializer_list<int64_t> bytes) {
  uint64_t all = 16;
  for (int64_t b : bytes) all |= static_cast<uint64_t>(b);
  return 1 << std::countr_zero(all);
}

template <class F>
void dispatch_pack(int bytes, F&& f) {
  switch (bytes) {
    case 16:
      return f(Type<uint4>{});
    case 8:
      return f(Type<uint64_t>{});
    case 4:
      return f(Type<uint32_t>{});
    case 2:
      return f(Type<uint16_t>{});
    default:
      return f(Type<uint8_t>{});
  }
}

// --- reading ---------------------------------------------------------------------------------------------------------

template <class T>
__global__ void gather_kernel(Space<3> s, int64_t size, int64_t step, Fault bad) {  // operands: y, index, x
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[3];
    s.locate(i, at);
    int64_t id = s.operand[1].data.load<int64_t>(at[1]);
    if (!inside(id, size)) {
      bad.raise(id);
      continue;
    }
    static_cast<T*>(s.operand[0].data.data)[at[0]] = static_cast<const T*>(s.operand[2].data.data)[at[2] + id * step];
  }
}

// s: the rows; operands as above. Strides and lengths count packs of type P; `lanes` threads take a row.
template <class P>
__global__ void gather_rows_kernel(Space<3> s, int64_t length, int lanes, int64_t size, int64_t step, Fault bad) {
  WEFT_GRID_LOOP(i, s.numel * lanes) {
    int64_t at[3];
    s.locate(i / lanes, at);
    const int64_t id = s.operand[1].data.load<int64_t>(at[1]);
    if (!inside(id, size)) {
      bad.raise(id);
      continue;
    }
    const P* from = static_cast<const P*>(s.operand[2].data.data) + at[2] + id * step;
    P* to = static_cast<P*>(s.operand[0].data.data) + at[0];
#pragma unroll 4
    for (int64_t p = i % lanes; p < length; p += lanes) to[p] = from[p];
  }
}

// Threads for a row of so many packs: a power of two, so that a warp holds whole rows.
int lanes_for(int64_t packs, int most) {
  return static_cast<int>(std::bit_ceil(static_cast<uint64_t>(std::clamp<int64_t>(packs, 1, most))));
}

// Drops the innermost dimension of the space and counts what remains in packs of bytes; the index keeps its elements.
Space<3> rows_of(Space<3> s, int64_t scale_down) {
  s.numel /= s.sizes[--s.ndim];
  for (int k : {0, 2}) {
    for (int d = 0; d < s.ndim; ++d) s.operand[k].strides[d] /= scale_down;
  }
  return s;
}

// Whether the innermost dimension is a run of neighbours with one index.
bool has_rows(const Space<3>& s) {
  if (s.ndim == 0) return false;
  const int d = s.ndim - 1;
  return s.operand[1].strides[d] == 0 && s.operand[0].strides[d] == 1 && s.operand[2].strides[d] == 1;
}

// Bytes that divide the beginning of every row of y and x.
int row_pack(const Space<3>& s, int64_t step, int64_t element) {
  int bytes =
      pack_bytes({s.sizes[s.ndim - 1] * element, step * element, reinterpret_cast<intptr_t>(s.operand[0].data.data),
                  reinterpret_cast<intptr_t>(s.operand[2].data.data)});
  for (int d = 0; d + 1 < s.ndim; ++d)
    bytes = pack_bytes({bytes, s.operand[0].strides[d] * element, s.operand[2].strides[d] * element});
  return bytes;
}

// --- writing along dim -----------------------------------------------------------------------------------------------

struct Bytes {  // an element of any size, moved as it is
  char* data;
  int size;
  __device__ void copy_from(int64_t to, const Bytes& from, int64_t at) const {
    for (int b = 0; b < size; ++b) data[to * size + b] = from.data[at * size + b];
  }
};
Bytes bytes_of(const Tensor& x) { return {static_cast<char*>(x.raw_data()), static_cast<int>(size_of(x.dtype()))}; }

// What is written where: dimension dim of y, index and src, and how long it is.
struct Along {
  int64_t length, size;  // of the index and of y
  int64_t step_y, step_index, step_src;
};

// A thread a lane, in order along dim. operands: y, index, src, all at the beginning of dim.
template <class C>
__global__ void scatter_kernel(Space<3> s, Bytes y, Bytes src, bool accumulate, Along a, Fault bad) {
  WEFT_GRID_LOOP(lane, s.numel) {
    int64_t at[3];
    s.locate(lane, at);
    for (int64_t j = 0; j < a.length; ++j) {
      const int64_t id = s.operand[1].data.load<int64_t>(at[1] + j * a.step_index);
      if (!inside(id, a.size)) {
        bad.raise(id);
        continue;
      }
      const int64_t to = at[0] + id * a.step_y, from = at[2] + j * a.step_src;
      if (accumulate)
        s.operand[0].data.store(to, s.operand[0].data.load<C>(to) + s.operand[2].data.load<C>(from));
      else
        y.copy_from(to, src, from);
    }
  }
}

// --- writing sorted --------------------------------------------------------------------------------------------------
// An entry is one element of the index; outer: the dimensions other than dim along which the index differs, row: those
// along which it is the same. The key of an entry is its place, outer · size + id. A stable sort by key brings together
// what goes to one place, in the order of dim. Entries are cut into chunks; `lanes` threads take a chunk and
// a stretch of the row. Runs that lie within a chunk are added to y at once; what a run has in a chunk that it enters
// or leaves through its ends goes to `open`, and a second kernel adds that up chunk by chunk.

// Entries of a chunk: few where there are few, so that no thread has long to walk.
int64_t chunk_for(int64_t entries) { return entries <= 8192 ? 8 : 32; }

struct Sorted {
  Space<3> outer;  // y, index, src
  Space<2> row;    // y, src
  Along along;
  int64_t entries, chunk, chunks;
  int lanes;
  const uint64_t* key;
  const int64_t* from;  // where each entry's row begins in src

  __device__ int64_t end_of(int64_t number) const {
    const int64_t end = (number + 1) * chunk;
    return end < entries ? end : entries;
  }
  __device__ uint64_t none() const { return static_cast<uint64_t>(outer.numel * along.size); }  // key of a bad index
  __device__ int64_t place(uint64_t k) const {
    int64_t at[3];
    outer.locate(static_cast<int64_t>(k) / along.size, at);
    return at[0] + static_cast<int64_t>(k) % along.size * along.step_y;
  }
};

__global__ void keys_kernel(Space<3> outer, Along a, uint64_t* key, int64_t* from, Fault bad) {
  WEFT_GRID_LOOP(e, outer.numel * a.length) {
    const int64_t lane = e / a.length, j = e % a.length;
    int64_t at[3];
    outer.locate(lane, at);
    const int64_t id = outer.operand[1].data.load<int64_t>(at[1] + j * a.step_index);
    const bool good = inside(id, a.size);
    if (!good) bad.raise(id);
    key[e] = static_cast<uint64_t>(good ? lane * a.size + id : outer.numel * a.size);
    from[e] = at[2] + j * a.step_src;
  }
}

// The last of each place stays. A thread an element of an entry's row.
template <class T>
__global__ void put_sorted_kernel(Sorted s, T* y, const T* src) {
  WEFT_GRID_LOOP(i, s.entries * s.row.numel) {
    const int64_t e = i / s.row.numel;
    const uint64_t k = s.key[e];
    if (k == s.none() || (e + 1 < s.entries && s.key[e + 1] == k)) continue;
    int64_t at[2];
    s.row.locate(i % s.row.numel, at);
    y[s.place(k) + at[0]] = src[s.from[e] + at[1]];
  }
}

// V neighbours of a row of y, whose dtype is C, and of src, whose dtype is T; any dtypes for V = 1.
template <class C, class T, int V>
struct Columns {
  C v[V];
  __device__ void clear() {
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = C(0);
  }
  __device__ void read(const Data& src, int64_t i) {
    if constexpr (V == 1) {
      v[0] = src.load<C>(i);
    } else {
      const auto raw = *reinterpret_cast<const RowPack<T, V>*>(static_cast<const T*>(src.data) + i);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = widen(raw.v[j]);
    }
  }
  __device__ void add(const C* p) {
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] += p[j];
  }
  __device__ void store(C* p) const {
#pragma unroll
    for (int j = 0; j < V; ++j) p[j] = v[j];
  }
  __device__ void add_to(const Data& y, int64_t i) const {
    if constexpr (V == 1) {
      y.store(i, y.load<C>(i) + v[0]);
    } else {
      auto* p = reinterpret_cast<RowPack<C, V>*>(static_cast<C*>(y.data) + i);
      RowPack<C, V> sum = *p;
#pragma unroll
      for (int j = 0; j < V; ++j) sum.v[j] += v[j];
      *p = sum;
    }
  }
};

// What one thread of the two kernels below works on.
struct Task {
  int64_t chunk, begin, end, column;
  int64_t y, src;  // offsets of the column
  bool enters, leaves;

  template <int V>
  static __device__ Task of(const Sorted& s, int64_t i, std::integral_constant<int, V>) {
    const int64_t stretch = int64_t{s.lanes} * V, stretches = (s.row.numel + stretch - 1) / stretch, team = i / s.lanes;
    Task t;
    t.chunk = team / stretches;
    t.column = team % stretches * stretch + i % s.lanes * V;
    t.begin = t.chunk * s.chunk;
    t.end = s.end_of(t.chunk);
    if (t.column >= s.row.numel) return t;
    int64_t at[2];
    s.row.locate(t.column, at);
    t.y = at[0], t.src = at[1];
    t.enters = t.begin > 0 && s.key[t.begin - 1] == s.key[t.begin];
    t.leaves = t.end < s.entries && s.key[t.end] == s.key[t.end - 1];
    return t;
  }
};

// open: [2, chunks, row], what the run at a chunk's beginning (0) and at its end (1) has there.
template <class C, class T, int V>
__global__ void add_sorted_kernel(Sorted s, Data y, Data src, C* open, int64_t threads) {
  constexpr int kBatch = 8;  // rows on their way at a time
  WEFT_GRID_LOOP(i, threads) {
    const Task t = Task::of(s, i, std::integral_constant<int, V>{});
    if (t.column >= s.row.numel) continue;
    Columns<C, T, V> sum, next[kBatch];
    uint64_t key[kBatch + 1];
    sum.clear();
    bool first = t.enters;
    for (int64_t at = t.begin; at < t.end; at += kBatch) {
      const int count = static_cast<int>(t.end - at < kBatch ? t.end - at : kBatch);
#pragma unroll
      for (int b = 0; b < kBatch; ++b)
        if (b < count) next[b].read(src, s.from[at + b] + t.src), key[b] = s.key[at + b];
      if (at + count < t.end) key[kBatch] = s.key[at + kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (b >= count) break;
        const uint64_t k = key[b];
        const bool last = at + b + 1 == t.end;
        sum.add(next[b].v);
        if (!last && key[b + 1] == k) continue;
        if (first)
          sum.store(open + t.chunk * s.row.numel + t.column);
        else if (last && t.leaves)
          sum.store(open + (s.chunks + t.chunk) * s.row.numel + t.column);
        else if (k != s.none())
          sum.add_to(y, s.place(k) + t.y);
        first = false;
        sum.clear();
      }
    }
  }
}

// Each run that crosses ends of chunks, by those who hold the chunk where it begins.
template <class C, class T, int V>
__global__ void add_open_kernel(Sorted s, Data y, const C* open, int64_t threads) {
  WEFT_GRID_LOOP(i, threads) {
    const Task t = Task::of(s, i, std::integral_constant<int, V>{});
    if (t.column >= s.row.numel || !t.leaves) continue;
    const uint64_t k = s.key[t.end - 1];
    if (k == s.none() || (t.enters && s.key[t.begin] == k)) continue;
    int64_t low = t.end, high = s.entries;  // where the run ends: the first entry of another key
    if (s.end_of(t.chunk + 1) < s.entries && s.key[s.end_of(t.chunk + 1)] != k) high = s.end_of(t.chunk + 1);
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      s.key[middle] == k ? low = middle + 1 : high = middle;
    }
    Columns<C, T, V> sum;
    sum.clear();
    sum.add(open + (s.chunks + t.chunk) * s.row.numel + t.column);
    const int64_t chunks = (low - 1) / s.chunk;
#pragma unroll 8
    for (int64_t c = t.chunk + 1; c <= chunks; ++c) sum.add(open + c * s.row.numel + t.column);
    sum.add_to(y, s.place(k) + t.y);
  }
}

// The entries of an index, sorted by place.
class Sorting {
 public:
  Sorting(const char* op, const Space<3>& lanes, const Along& along, const Fault& bad, Device device)
      : sorted_{split<3>(lanes, {0, 1, 2}, false), split<2>(lanes, {0, 2}, true), along} {
    Sorted& s = sorted_;
    s.entries = s.outer.numel * along.length;
    s.chunk = chunk_for(s.entries), s.chunks = (s.entries + s.chunk - 1) / s.chunk;
    memory_ = empty({4, s.entries}, int64, device);
    int64_t* p = memory_.data<int64_t>();
    auto* key = reinterpret_cast<uint64_t*>(p);
    int64_t* from = p + 2 * s.entries;
    launch(op, s.entries, keys_kernel, s.outer, along, key, from, bad);
    const int bits = std::bit_width(static_cast<uint64_t>(s.outer.numel * along.size));
    size_t bytes = 0;
    auto sort = [&](void* scratch) {
      check_cuda(cub::DeviceRadixSort::SortPairs(scratch, bytes, key, key + s.entries, from, from + s.entries,
                                                 s.entries, 0, bits, stream()),
                 op);
    };
    sort(nullptr);
    const Tensor scratch = empty({static_cast<int64_t>(bytes)}, uint8, device);
    sort(scratch.raw_data());
    s.key = key + s.entries, s.from = from + s.entries;
  }
  Sorted& get() { return sorted_; }

 private:
  // The dimensions of the lanes along which the index is the same (row) or not, for some of the operands.
  template <int N>
  static Space<N> split(const Space<3>& lanes, const int (&operands)[N], bool row) {
    Space<N> out;
    out.numel = 1;
    for (int k = 0; k < N; ++k) out.operand[k].data = lanes.operand[operands[k]].data;
    for (int d = 0; d < lanes.ndim; ++d) {
      if ((lanes.operand[1].strides[d] == 0) != row) continue;
      out.sizes[out.ndim] = lanes.sizes[d];
      out.numel *= lanes.sizes[d];
      for (int k = 0; k < N; ++k) out.operand[k].strides[out.ndim] = lanes.operand[operands[k]].strides[d];
      ++out.ndim;
    }
    return out;
  }

  Sorted sorted_;
  Tensor memory_;
};

template <class C, class T, int V>
void add_sorted(const char* op, Sorted s, const Data& y, const Data& src, Device device) {
  s.lanes = lanes_for((s.row.numel + V - 1) / V, 64);
  const int64_t stretch = int64_t{s.lanes} * V, threads = s.chunks * ((s.row.numel + stretch - 1) / stretch) * s.lanes;
  const Tensor open = empty({2, s.chunks, s.row.numel}, dtype_of<C>(), device);
  launch(op, threads, add_sorted_kernel<C, T, V>, s, y, src, open.data<C>(), threads);
  launch(op, threads, add_open_kernel<C, T, V>, s, y, open.data<C>(), threads);
}

// Whether rows of y and src lie in packs of four.
bool fours(const Sorted& s, const Data& y, const Data& src) {
  if (y.dtype != float32 || s.row.ndim != 1 || s.row.operand[0].strides[0] != 1 || s.row.operand[1].strides[0] != 1)
    return false;
  int64_t all = s.row.numel | s.along.step_y | s.along.step_src;
  for (int d = 0; d < s.outer.ndim; ++d) all |= s.outer.operand[0].strides[d] | s.outer.operand[2].strides[d];
  return all % 4 == 0 && reinterpret_cast<uintptr_t>(y.data) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(src.data) % (4 * size_of(src.dtype)) == 0;
}

void scatter_sorted(const char* op, const Space<3>& lanes, const Along& along, bool accumulate, const Fault& bad,
                    Tensor& y, const Tensor& src) {
  Sorting sorting(op, lanes, along, bad, y.device());
  const Sorted& s = sorting.get();
  const Data to = data_of(y), from = data_of(src);
  if (!accumulate) {
    return dispatch_size(y.dtype(), [&]<class T>(Type<T>) {
      launch(op, s.entries * s.row.numel, put_sorted_kernel<T>, s, static_cast<T*>(to.data),
             static_cast<const T*>(from.data));
    });
  }
  const bool packed = fours(s, to, from) && float_rows(from.dtype, [&]<class T>(Type<T>) {
                        add_sorted<float, T, 4>(op, s, to, from, y.device());
                        return true;
                      });
  if (packed) return;
  dispatch_compute(y.dtype(), [&]<class C>(Type<C>) { add_sorted<C, C, 1>(op, s, to, from, y.device()); });
}

// --- positions -------------------------------------------------------------------------------------------------------

__global__ void fold_kernel(Space<2> s, int64_t n, Fault bad) {
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[2];
    s.locate(i, at);
    const int64_t id = s.operand[1].data.load<int64_t>(at[1]);
    if (id < -n || id >= n) bad.raise(id);
    s.operand[0].data.store(at[0], s.operand[0].data.load<int64_t>(at[0]) * n + (id < 0 ? id + n : id));
  }
}

}  // namespace

void gather(const char* op, const Tensor& x, int64_t dim, const Tensor& index, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(x);
  const int64_t size = x.shape()[dim], step = x.strides()[dim];
  const Tensor base = without_dim(x, dim, index.shape());
  const Space<3> s(index.shape(), {&y, &index, &base});
  const Fault bad = fault(op, dim, size);
  if (!has_rows(s)) {
    return dispatch_size(x.dtype(),
                         [&]<class T>(Type<T>) { launch(op, s.numel, gather_kernel<T>, s, size, step, bad); });
  }
  const auto element = static_cast<int64_t>(size_of(x.dtype()));
  const int bytes = row_pack(s, step, element);
  dispatch_pack(bytes, [&]<class P>(Type<P>) {
    const int64_t elements = bytes / element, length = s.sizes[s.ndim - 1] / elements;
    const Space<3> rows = rows_of(s, elements);
    const int lanes = lanes_for(length, 32);
    launch(op, rows.numel * lanes, gather_rows_kernel<P>, rows, length, lanes, size, step / elements, bad);
  });
}

void scatter(const char* op, int64_t dim, const Tensor& index, const Tensor& src, bool accumulate, Tensor& y) {
  if (index.numel() == 0) return;
  DeviceScope scope(y);
  Shape lanes = index.shape();
  lanes[dim] = 1;
  const Tensor ly = without_dim(y, dim, lanes), li = without_dim(index, dim, lanes), ls = without_dim(src, dim, lanes);
  const Space<3> s(lanes, {&ly, &li, &ls});
  const Along along{index.shape()[dim], y.shape()[dim], y.strides()[dim], index.strides()[dim], src.strides()[dim]};
  const Fault bad = fault(op, dim, along.size);
  int64_t row = 1;  // elements that go together
  for (int d = 0; d < s.ndim; ++d) row *= s.operand[1].strides[d] == 0 ? s.sizes[d] : 1;
  if (along.length > 32 && (row >= 8 || s.numel < 16384)) return scatter_sorted(op, s, along, accumulate, bad, y, src);
  dispatch_compute(y.dtype(), [&]<class C>(Type<C>) {
    launch(op, s.numel, scatter_kernel<C>, s, bytes_of(y), bytes_of(src), accumulate, along, bad);
  });
}

void fold_index(const char* op, int64_t dim, const Tensor& index, int64_t n, Tensor& flat) {
  if (flat.numel() == 0) return;
  DeviceScope scope(flat);
  const Space<2> s(flat.shape(), {&flat, &index});
  launch(op, s.numel, fold_kernel, s, n, fault(op, dim, n));
}

void nonzero(const Tensor& x, Tensor& positions) {
  if (x.numel() == 0) return;
  DeviceScope scope(x);
  const Tensor count = empty({}, int64, x.device());
  size_t bytes = 0;
  auto select = [&](void* scratch) {
    check_cuda(cub::DeviceSelect::Flagged(scratch, bytes, thrust::make_counting_iterator<int64_t>(0), x.data<bool>(),
                                          positions.data<int64_t>(), count.data<int64_t>(), x.numel(), stream()),
               "nonzero");
  };
  select(nullptr);
  const Tensor scratch = empty({static_cast<int64_t>(bytes)}, uint8, x.device());
  select(scratch.raw_data());
}

}  // namespace weft::cuda

// The blocking around the kernels of gemm_kernels.inc, after Goto and van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication" (2008): panels of A and B are copied ("packed") into the order in which the kernel reads them, then C
// is computed in register tiles. First all panels of a block are packed, in parallel, then all tiles run, in parallel.
#include <weft/cpu/gemm.h>
#include <weft/cpu/gemm_kernels.h>
#include <weft/tensor/parallel.h>

#include <algorithm>
#include <cstddef>
#include <new>

namespace weft::cpu {
namespace {

constexpr int64_t kDepth = 256;                     // k of one register tile: a panel of B then stays in the L1 cache
constexpr int64_t kPackedElements = 2 << 20;        // packed at a time, A and B together
constexpr int64_t kTileRows = 96, kTileCols = 256;  // one task's part of C: its panels of A stay in the L2 cache
constexpr int64_t kMinTask = 1 << 18;               // multiply-adds that are worth waking a thread for
constexpr int64_t kManyRows = 256;                  // from here on, packing all of A and B pays
constexpr int64_t kDirectRows = 192;                // one task's rows below that
constexpr int64_t kSpill = 16;                      // elements that packing may write past the end

int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return div_up(a, b) * b; }

/// Memory of this thread that is kept from call to call: fresh pages would cost more than packing into them.
template <class T>
T* scratch(int64_t elements) {
  struct Buffer {
    std::byte* data = nullptr;
    size_t size = 0;
    void free() { ::operator delete (data, std::align_val_t{64}); }
    ~Buffer() { free(); }
  };
  thread_local Buffer buffer;
  const size_t bytes = static_cast<size_t>(elements) * sizeof(T);
  if (buffer.size < bytes) {
    buffer.free();
    buffer.data = nullptr, buffer.size = 0;  // in case the next line throws
    buffer.data = static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64}));
    buffer.size = bytes;
  }
  return reinterpret_cast<T*>(buffer.data);
}

template <class F>
void loop(bool parallel, int64_t n, int64_t grain, F&& fn) {
  if (parallel) {
    parallel_for(n, grain, fn);
  } else {
    for (int64_t begin = 0; begin < n; begin += grain) fn(begin, std::min(n, begin + grain));
  }
}

/// op(A) or op(B) as stored: `at` gives the address of element (row, col) of op(X).
template <class T>
struct Operand {
  const T* data;
  int64_t ld;
  bool trans;
  const T* at(int64_t row, int64_t col) const { return trans ? data + col * ld + row : data + row * ld + col; }
  int64_t row() const { return trans ? 1 : ld; }  // distance of two rows, columns of op(X)
  int64_t col() const { return trans ? ld : 1; }
};

template <class T>
struct Product {
  bool parallel;
  int64_t m, n, k;
  T alpha;
  Operand<T> a, b;
  T beta;
  T* c;
  int64_t ldc;

  GemmOut<T> out(int64_t i, int64_t j, bool first) const { return {c + i * ldc + j, ldc, alpha, first ? beta : T{1}}; }
};

template <class T>
void scale(const Product<T>& x) {
  for (int64_t i = 0; i < x.m; ++i) {
    for (int64_t j = 0; j < x.n; ++j) x.c[i * x.ldc + j] = x.beta == 0 ? T{} : x.beta * x.c[i * x.ldc + j];
  }
}

/// Both operands along k and few rows of one of them: read the other once, where it lies. few: [few_count, k],
/// many: [many_count, k]; few · manyᵀ is C, or its transpose if the few are columns of C.
template <class T>
void by_dots(const Product<T>& x, bool few_columns, const T* few, int64_t ld_few, const T* many, int64_t ld_many) {
  const GemmKernels<T>& kernels = gemm_kernels<T>();
  const int64_t few_count = few_columns ? x.n : x.m, many_count = few_columns ? x.m : x.n;
  const int64_t row = few_columns ? 1 : x.ldc, col = few_columns ? x.ldc : 1;  // of few · manyᵀ, in C
  const int64_t grain = std::max<int64_t>(8, round_up(div_up(kMinTask / 8, x.k * few_count), 8));
  loop(x.parallel, many_count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < few_count; i += 4) {
      kernels.dots(std::min<int64_t>(4, few_count - i), end - begin, x.k, few + i * ld_few, ld_few,
                   many + begin * ld_many, ld_many, x.alpha, x.beta, x.c + i * row + begin * col, row, col);
    }
  });
}

/// Few columns of B, which runs across k: put them along k first.
template <class T>
void by_dots_of_columns(const Product<T>& x) {
  T* const columns = scratch<T>(x.n * x.k);  // [n, k]
  for (int64_t p = 0; p < x.k; ++p) {
    for (int64_t j = 0; j < x.n; ++j) columns[j * x.k + p] = x.b.data[p * x.b.ld + j];
  }
  by_dots(x, true, columns, x.k, x.a.data, x.a.ld);
}

/// Few rows, and B not transposed: stream the rows of B, for a chunk of columns at a time.
template <class T>
void by_wide_rows(const Product<T>& x) {
  const GemmKernels<T>& kernels = gemm_kernels<T>();
  const int64_t unit = 512 / static_cast<int64_t>(sizeof(T));  // columns: long enough for the processor to read ahead
  const int64_t grain = std::max(unit, round_up(div_up(kMinTask / 8, x.k * x.m), unit));
  loop(x.parallel, x.n, grain, [&](int64_t begin, int64_t end) {
    kernels.wide(x.m, end - begin, x.k, {x.a.data, x.a.row(), x.a.col()}, x.b.at(0, begin), x.b.ld,
                 x.out(0, begin, true));
  });
}

/// Few columns, and A transposed: the same for the rows of A as stored, then the result is turned round.
template <class T>
void by_wide_columns(const Product<T>& x) {
  const GemmKernels<T>& kernels = gemm_kernels<T>();
  const int64_t unit = 512 / static_cast<int64_t>(sizeof(T));
  const int64_t grain = std::max(unit, round_up(div_up(kMinTask / 8, x.k * x.n), unit));
  loop(x.parallel, x.m, grain, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    T* const turned = scratch<T>(x.n * rows);  // [n, rows]
    kernels.wide(x.n, rows, x.k, {x.b.data, x.b.col(), x.b.row()}, x.a.at(begin, 0), x.a.ld,
                 {turned, rows, x.alpha, T{0}});
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < x.n; ++j) {
        T& to = x.c[(begin + i) * x.ldc + j];
        to = x.beta == 0 ? turned[j * rows + i] : turned[j * rows + i] + x.beta * to;
      }
    }
  });
}

/// Small and middle-sized products: A is read where it lies; B too unless transposed, else each task packs its panel.
template <class T>
void by_direct_tiles(const Product<T>& x) {
  const GemmKernels<T>& kernels = gemm_kernels<T>();
  const int64_t mr = kernels.mr, nr = kernels.nr;
  const auto one_panel = [&](int64_t i_begin, int64_t i_end, int64_t j, int64_t p, T* panel) {
    const int64_t depth = std::min(kDepth, x.k - p), cols = std::min(nr, x.n - j);
    const bool as_it_lies = !x.b.trans && cols == nr;
    if (!as_it_lies) kernels.pack_b(x.b.trans, x.b.at(p, j), x.b.ld, depth, cols, panel);
    const T* const b = as_it_lies ? x.b.at(p, j) : panel;
    const int64_t b_step = as_it_lies ? x.b.ld : nr;
    for (int64_t i = i_begin; i < i_end; i += mr) {
      const GemmIn<T> a{x.a.at(i, p), x.a.row(), x.a.col()};
      kernels.tile(std::min(mr, i_end - i), cols, depth, a, b, b_step, x.out(i, j, p == 0));
    }
  };
  // Few columns: more row blocks, so that there is a task for every thread.
  const int64_t panels = div_up(x.n, nr), least_work = 2 * kMinTask;
  int64_t block = kDirectRows;
  while (div_up(x.m, block) * panels < 16 && block > 2 * mr && block / 2 * x.k * nr > least_work) block /= 2;
  block = round_up(div_up(x.m, div_up(x.m, block)), mr);
  const int64_t tasks = div_up(x.m, block) * panels;
  loop(x.parallel, tasks, div_up(kMinTask, std::min(block, x.m) * x.k * nr), [&](int64_t begin, int64_t end) {
    T* const panel = scratch<T>(nr * std::min(x.k, kDepth));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t i = task / panels * block, j = task % panels * nr, i_end = std::min(x.m, i + block);
      for (int64_t p = 0; p < x.k; p += kDepth) one_panel(i, i_end, j, p, panel);
    }
  });
}

/// How C is cut into tasks, in panels of A by panels of B: from the sizes alone.
struct Tasks {
  int64_t rows, cols;  // panels of a task
  int64_t row_tasks, col_tasks;

  Tasks(int64_t row_panels, int64_t col_panels, int64_t mr, int64_t nr, int64_t depth) {
    rows = std::min(row_panels, kTileRows / mr);
    cols = std::min(col_panels, kTileCols / nr);
    while (div_up(row_panels, rows) * div_up(col_panels, cols) < 16 && rows * mr * cols * nr * depth > 2 * kMinTask) {
      int64_t& longer = rows * mr > cols * nr ? rows : cols;
      if (longer == 1) break;
      longer = div_up(longer, 2);
    }
    row_tasks = div_up(row_panels, rows), col_tasks = div_up(col_panels, cols);
    rows = div_up(row_panels, row_tasks), cols = div_up(col_panels, col_tasks);  // even shares
  }
};

/// Rows [i0, i0 + m), columns [j0, j0 + n) and the stretch [p0, p0 + k) of the sum.
template <class T>
void packed_block(const Product<T>& x, int64_t i0, int64_t m, int64_t j0, int64_t n, int64_t p0, int64_t k) {
  const GemmKernels<T>& kernels = gemm_kernels<T>();
  const int64_t mr = kernels.mr, nr = kernels.nr;
  const int64_t row_panels = div_up(m, mr), col_panels = div_up(n, nr);
  const int64_t depth = round_up(div_up(k, div_up(k, kDepth)), 8);  // even shares of k
  const int64_t depths = div_up(k, depth);

  // Panels lie in memory as [depths][panels][depth][mr or nr]; between two panels of A there is room for the spill.
  const int64_t a_panel = mr * depth + kSpill, b_panel = nr * depth;
  T* const packed_b = scratch<T>(depths * (col_panels * b_panel + row_panels * a_panel));
  T* const packed_a = packed_b + depths * col_panels * b_panel;
  const int64_t panels = depths * (row_panels + col_panels);
  loop(x.parallel, panels, div_up(1 << 15, depth * nr), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t d = at / (row_panels + col_panels), panel = at % (row_panels + col_panels);
      const int64_t p = d * depth, size = std::min(depth, k - p);
      if (panel < col_panels) {
        kernels.pack_b(x.b.trans, x.b.at(p0 + p, j0 + panel * nr), x.b.ld, size, std::min(nr, n - panel * nr),
                       packed_b + (d * col_panels + panel) * b_panel);
      } else {
        const int64_t i = panel - col_panels;
        kernels.pack_a(x.a.trans, x.a.at(i0 + i * mr, p0 + p), x.a.ld, std::min(mr, m - i * mr), size,
                       packed_a + (d * row_panels + i) * a_panel);
      }
    }
  });

  const Tasks tasks(row_panels, col_panels, mr, nr, k);
  loop(x.parallel, tasks.row_tasks * tasks.col_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t i_begin = task % tasks.row_tasks * tasks.rows, i_end = std::min(row_panels, i_begin + tasks.rows);
      const int64_t j_begin = task / tasks.row_tasks * tasks.cols, j_end = std::min(col_panels, j_begin + tasks.cols);
      for (int64_t d = 0; d < depths; ++d) {
        const int64_t size = std::min(depth, k - d * depth);
        for (int64_t j = j_begin; j < j_end; ++j) {
          const T* const b = packed_b + (d * col_panels + j) * b_panel;
          for (int64_t i = i_begin; i < i_end; ++i) {
            const T* const a = packed_a + (d * row_panels + i) * a_panel;
            kernels.tile(std::min(mr, m - i * mr), std::min(nr, n - j * nr), size, {a, 1, mr}, b, nr,
                         x.out(i0 + i * mr, j0 + j * nr, p0 == 0 && d == 0));
          }
        }
      }
    }
  });
}

template <class T>
void by_packed_blocks(const Product<T>& x) {
  // Prefer the whole of m and n and a part of k; cut m and n too when one kDepth of them is more than the budget.
  const int64_t m_step = std::min(x.m, kPackedElements / 2 / kDepth),
                n_step = std::min(x.n, kPackedElements / 2 / kDepth);
  const int64_t k_step = std::max(kDepth, kPackedElements / (m_step + n_step) / kDepth * kDepth);
  for (int64_t p = 0; p < x.k; p += k_step) {
    for (int64_t j = 0; j < x.n; j += n_step) {
      for (int64_t i = 0; i < x.m; i += m_step) {
        packed_block(x, i, std::min(m_step, x.m - i), j, std::min(n_step, x.n - j), p, std::min(k_step, x.k - p));
      }
    }
  }
}

template <class T>
void run(const Product<T>& x) {
  if (x.m <= 0 || x.n <= 0) return;
  if (x.k <= 0 || x.alpha == 0) return scale(x);
  const bool a_along_k = !x.a.trans, b_along_k = x.b.trans;
  if (x.m <= 8 && a_along_k && b_along_k) return by_dots(x, false, x.a.data, x.a.ld, x.b.data, x.b.ld);
  if (x.n <= 8 && a_along_k && b_along_k) return by_dots(x, true, x.b.data, x.b.ld, x.a.data, x.a.ld);
  if (x.n <= 8 && a_along_k) return by_dots_of_columns(x);
  if (x.m <= 4 && !b_along_k) return by_wide_rows(x);
  if (x.n <= 4 && !a_along_k) return by_wide_columns(x);
  if (x.m <= kManyRows) return by_direct_tiles(x);
  by_packed_blocks(x);
}

}  // namespace

template <class T>
void gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const T* b,
          int64_t ldb, T beta, T* c, int64_t ldc) {
  run(Product<T>{true, m, n, k, alpha, {a, lda, trans_a}, {b, ldb, trans_b}, beta, c, ldc});
}

template <class T>
void gemm_serial(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
                 const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  run(Product<T>{false, m, n, k, alpha, {a, lda, trans_a}, {b, ldb, trans_b}, beta, c, ldc});
}

template void gemm<float>(bool, bool, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*, int64_t,
                          float, float*, int64_t);
template void gemm<double>(bool, bool, int64_t, int64_t, int64_t, double, const double*, int64_t, const double*,
                           int64_t, double, double*, int64_t);
template void gemm_serial<float>(bool, bool, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*,
                                 int64_t, float, float*, int64_t);
template void gemm_serial<double>(bool, bool, int64_t, int64_t, int64_t, double, const double*, int64_t, const double*,
                                  int64_t, double, double*, int64_t);

}  // namespace weft::cpu

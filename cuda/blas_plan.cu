// cuBLASLt counts in columns, so a row-major y = a·b is given to it as yᵀ = bᵀ·aᵀ: its A is our b, its B our a, and
// its D our y, each read as it lies in memory. Asking which algorithm suits a product costs more than a small product,
// so the answers are kept: a plan holds everything of a call but the pointers.
//
// Half types: sums are kept in float32 through all of k, also where k is split over blocks (the parts are added in
// float32 too). The library is deterministic as long as a workspace serves one stream, which stream() sees to.
#include <weft/cuda/blas_plan.h>
#include <weft/ops/matmul.h>
#include <weft/cuda/common.cuh>

#include <array>
#include <unordered_map>

namespace weft::cuda {

namespace {

constexpr size_t kWorkspace = size_t{32} << 20;  // what NVIDIA recommends for Hopper
constexpr size_t kMaxPlans = 4096;
constexpr int kMaxDevices = 16;

void check_blas(cublasStatus_t status, const Product& p) {
  check(status == CUBLAS_STATUS_SUCCESS, p.op, ": cuBLAS: ", cublasLtGetStatusString(status), " for ", p.batch, " × [",
        p.a.rows, ", ", p.a.cols, "] × [", p.b.rows, ", ", p.b.cols, "] in ", p.a.dtype, ", to ", p.y.dtype);
}

cudaDataType_t type_of(DType d) {
  switch (d) {
    case DType::float64:
      return CUDA_R_64F;
    case DType::bfloat16:
      return CUDA_R_16BF;
    case DType::float16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

cublasLtEpilogue_t epilogue_of(Epilogue e) {
  switch (e) {
    case Epilogue::none:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case Epilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::relu:
      return CUBLASLT_EPILOGUE_RELU;
    case Epilogue::relu_bias:
      return CUBLASLT_EPILOGUE_RELU_BIAS;
    case Epilogue::gelu:
      return CUBLASLT_EPILOGUE_GELU;
    case Epilogue::gelu_bias:
      return CUBLASLT_EPILOGUE_GELU_BIAS;
    case Epilogue::gelu_aux:
      return CUBLASLT_EPILOGUE_GELU_AUX;
    case Epilogue::gelu_aux_bias:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case Epilogue::gelu_grad:
      return CUBLASLT_EPILOGUE_DGELU;
    case Epilogue::row_sums:
      return CUBLASLT_EPILOGUE_BGRADB;
    case Epilogue::col_sums:
      return CUBLASLT_EPILOGUE_BGRADA;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

// --- plans ----------------------------------------------------------------------------------------------------------

struct Plan {
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t a, b, y;
  cublasLtMatmulAlgo_t algo;
  size_t workspace = 0;
  bool exists = false;  // whether the library can do it
};

// Everything that the choice of an algorithm may depend on.
using Key = std::array<int64_t, 25>;
struct KeyHash {
  size_t operator()(const Key& key) const {
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t v : key) h = (h ^ static_cast<uint64_t>(v)) * 0x9e3779b97f4a7c15u, h ^= h >> 29;
    return static_cast<size_t>(h);
  }
};

// One a thread and device: neither handles nor plans (which hold the pointers of their last call) are for sharing.
struct Library {
  cublasLtHandle_t handle = nullptr;
  std::unordered_map<Key, Plan, KeyHash> plans;
};

Library& library(const Product& p) {
  thread_local struct All {
    Library of[kMaxDevices];
    ~All() {
      for (Library& l : of) {
        if (l.handle) cublasLtDestroy(l.handle);
      }
    }
  } all;
  int device = 0;
  check_cuda(cudaGetDevice(&device), p.op);
  Library& l = all.of[device];
  if (!l.handle) check_blas(cublasLtCreate(&l.handle), p);
  return l;
}

// The matrix C of the library's αAB + βC, read where p.accumulate.
const void* added(const Product& p) { return p.start ? p.start : p.y.data; }

Key key_of(const Product& p, const StoredMatrix& a, const StoredMatrix& b) {
  return {static_cast<int64_t>(p.a.dtype),
          static_cast<int64_t>(p.y.dtype),
          static_cast<int64_t>(p.epilogue),
          tf32_allowed(),
          p.accumulate,
          p.batch,
          a.op,
          a.rows,
          a.cols,
          a.ld,
          a.batch_stride,
          alignment(p.a.data),
          b.op,
          b.rows,
          b.cols,
          b.ld,
          b.batch_stride,
          alignment(p.b.data),
          p.y.row_stride,
          p.y.batch_stride,
          alignment(p.y.data),
          alignment(added(p)),
          alignment(p.vector, 16),
          alignment(p.aux, 16),
          p.aux_stride};
}

template <class T>
void set(cublasLtMatmulDescOpaque_t& desc, cublasLtMatmulDescAttributes_t what, T value, const Product& p) {
  check_blas(cublasLtMatmulDescSetAttribute(&desc, what, &value, sizeof(value)), p);
}

void set_pointers(Plan& plan, const Product& p) {
  if (p.vector) set(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.vector, p);
  if (p.aux) set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.aux, p);
}

void describe(Plan& plan, const Product& p, const StoredMatrix& a, const StoredMatrix& b) {
  const bool wide = p.y.dtype == float64;
  const cublasComputeType_t compute = wide                                     ? CUBLAS_COMPUTE_64F
                                      : p.a.dtype == float32 && tf32_allowed() ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                               : CUBLAS_COMPUTE_32F;
  check_blas(cublasLtMatmulDescInit(&plan.desc, compute, wide ? CUDA_R_64F : CUDA_R_32F), p);
  set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, b.op, p);
  set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSB, a.op, p);
  set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p.epilogue), p);
  if (p.aux) set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.aux_stride, p);
  set_pointers(plan, p);

  const auto layout = [&](cublasLtMatrixLayoutOpaque_t& l, DType dtype, const StoredMatrix& s) {
    check_blas(cublasLtMatrixLayoutInit(&l, type_of(dtype), static_cast<uint64_t>(s.rows),
                                        static_cast<uint64_t>(s.cols), s.ld),
               p);
    if (p.batch == 1) return;
    const auto count = static_cast<int32_t>(p.batch);
    check_blas(cublasLtMatrixLayoutSetAttribute(&l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)), p);
    check_blas(cublasLtMatrixLayoutSetAttribute(&l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &s.batch_stride,
                                                sizeof(s.batch_stride)),
               p);
  };
  layout(plan.a, p.b.dtype, b);
  layout(plan.b, p.a.dtype, a);
  layout(plan.y, p.y.dtype, {p.y.cols, p.y.rows, std::max(p.y.row_stride, p.y.cols), p.y.batch_stride, CUBLAS_OP_N});
}

// What the library thinks fastest, given how the pointers are aligned.
void choose(Plan& plan, cublasLtHandle_t handle, const Product& p) {
  cublasLtMatmulPreferenceOpaque_t preference;
  check_blas(cublasLtMatmulPreferenceInit(&preference), p);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    check_blas(cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof(value)), p);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspace});
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(added(p)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.y.data));
  // Parts of k are never added up in a half type.
  if (is_half(p.y.dtype))
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  cublasLtMatmulHeuristicResult_t best;
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, &plan.desc, &plan.a, &plan.b, &plan.y, &plan.y,
                                                               &preference, 1, &best, &found);
  plan.exists = status == CUBLAS_STATUS_SUCCESS && found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
  if (plan.exists) plan.algo = best.algo, plan.workspace = best.workspaceSize;
  if (p.epilogue == Epilogue::none && !plan.exists)
    check_blas(status == CUBLAS_STATUS_SUCCESS ? CUBLAS_STATUS_NOT_SUPPORTED : status, p);
}

Plan& plan_for(Library& l, const Product& p) {
  const StoredMatrix a = stored(p.a), b = stored(p.b);
  const Key key = key_of(p, a, b);
  if (const auto it = l.plans.find(key); it != l.plans.end()) return it->second;
  if (l.plans.size() >= kMaxPlans) l.plans.clear();
  Plan plan;
  describe(plan, p, a, b);
  choose(plan, l.handle, p);
  return l.plans.emplace(key, plan).first->second;
}

// float64 has no epilogues. The library's GELU uses an approximate tanh, good enough for half types alone; its second
// matrix wants rows of a multiple of 8.
bool has_epilogue(const Product& p) {
  if (p.epilogue == Epilogue::none) return true;
  if (p.y.dtype == float64) return false;
  const bool is_gelu = p.epilogue >= Epilogue::gelu && p.epilogue <= Epilogue::gelu_grad;
  if (is_gelu && !(is_half(p.a.dtype) && p.y.dtype == p.a.dtype)) return false;
  return !p.aux || (p.aux_stride % 8 == 0 && alignment(p.aux, 16) == 16);
}

}  // namespace

bool multiply_as_it_lies(const Product& p) {
  if (!has_epilogue(p)) return false;
  Library& l = library(p);
  Plan& plan = plan_for(l, p);
  if (!plan.exists) return false;
  set_pointers(plan, p);

  const double alpha64 = 1, beta64 = p.accumulate ? 1 : 0;
  const float alpha32 = 1, beta32 = p.accumulate ? 1 : 0;
  const bool wide = p.y.dtype == float64;
  const void *alpha = wide ? static_cast<const void*>(&alpha64) : &alpha32,
             *beta = wide ? static_cast<const void*>(&beta64) : &beta32;
  Tensor workspace;
  if (plan.workspace > 0) {
    int device = 0;
    check_cuda(cudaGetDevice(&device), p.op);
    workspace = empty({static_cast<int64_t>(plan.workspace)}, uint8, Device::cuda(device));
  }
  check_blas(cublasLtMatmul(l.handle, &plan.desc, alpha, p.b.data, &plan.a, p.a.data, &plan.b, beta, added(p), &plan.y,
                            p.y.data, &plan.y, &plan.algo, workspace.defined() ? workspace.raw_data() : nullptr,
                            plan.workspace, stream()),
             p);
  return true;
}

}  // namespace weft::cuda

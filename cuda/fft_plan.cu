// cuFFT's plans, kept by the thread that made them: a plan is not to be used by two at once.
#include <weft/ops/create.h>
#include <weft/cuda/fft_plan.cuh>

#include <list>

namespace weft::cuda::fft {

namespace {

void check_fft(cufftResult status) { check(status == CUFFT_SUCCESS, "fft: cuFFT error ", static_cast<int>(status)); }

struct Plan {
  Rows rows;
  int device;
  cufftHandle handle = 0;
  size_t work_bytes = 0;

  Plan(const Rows& r, int d) : rows(r), device(d) {
    check_fft(cufftCreate(&handle));
    const cufftResult made = make();
    if (made != CUFFT_SUCCESS) cufftDestroy(handle);
    check_fft(made);
  }
  ~Plan() { cufftDestroy(handle); }
  Plan(const Plan&) = delete;

 private:
  cufftResult make() {
    if (const cufftResult status = cufftSetAutoAllocation(handle, 0); status != CUFFT_SUCCESS) return status;
    long long n[1] = {rows.n}, in[1] = {rows.in_pitch}, out[1] = {rows.out_pitch};
    return cufftMakePlanMany64(handle, 1, n, in, 1, rows.in_pitch, out, 1, rows.out_pitch, rows.type, rows.rows,
                               &work_bytes);
  }
};

// The plans used last, most recent first.
Plan& plan(const Rows& rows, int device) {
  constexpr size_t kMost = 64;
  thread_local std::list<Plan> plans;
  for (auto it = plans.begin(); it != plans.end(); ++it) {
    if (it->device != device || it->rows != rows) continue;
    plans.splice(plans.begin(), plans, it);
    return plans.front();
  }
  plans.emplace_front(rows, device);
  if (plans.size() > kMost) plans.pop_back();
  return plans.front();
}

cufftResult execute(const Plan& p, void* in, void* out, bool inverse) {
  const int direction = inverse ? CUFFT_INVERSE : CUFFT_FORWARD;
  switch (p.rows.type) {
    case CUFFT_R2C:
      return cufftExecR2C(p.handle, static_cast<cufftReal*>(in), static_cast<cufftComplex*>(out));
    case CUFFT_C2R:
      return cufftExecC2R(p.handle, static_cast<cufftComplex*>(in), static_cast<cufftReal*>(out));
    case CUFFT_C2C:
      return cufftExecC2C(p.handle, static_cast<cufftComplex*>(in), static_cast<cufftComplex*>(out), direction);
    case CUFFT_D2Z:
      return cufftExecD2Z(p.handle, static_cast<cufftDoubleReal*>(in), static_cast<cufftDoubleComplex*>(out));
    case CUFFT_Z2D:
      return cufftExecZ2D(p.handle, static_cast<cufftDoubleComplex*>(in), static_cast<cufftDoubleReal*>(out));
    case CUFFT_Z2Z:
      return cufftExecZ2Z(p.handle, static_cast<cufftDoubleComplex*>(in), static_cast<cufftDoubleComplex*>(out),
                          direction);
  }
  return CUFFT_INVALID_TYPE;
}

}  // namespace

void transform(const Rows& rows, void* in, void* out, bool inverse) {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "fft");
  const Plan& p = plan(rows, device);
  const Tensor work = empty({static_cast<int64_t>(p.work_bytes)}, uint8, Device::cuda(device));
  check_fft(cufftSetWorkArea(p.handle, work.raw_data()));
  check_fft(cufftSetStream(p.handle, stream()));
  check_fft(execute(p, in, out, inverse));
}

}  // namespace weft::cuda::fft

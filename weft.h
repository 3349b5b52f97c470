// Everything a program needs: #include <weft/weft.h>
#pragma once

#include <weft/autograd/autograd.h>
#include <weft/nn/activation.h>
#include <weft/nn/container.h>
#include <weft/nn/init.h>
#include <weft/nn/linear.h>
#include <weft/nn/module.h>
#include <weft/nn/optim/optimizer.h>
#include <weft/nn/optim/schedule.h>
#include <weft/ops/attention.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/loss.h>
#include <weft/ops/matmul.h>
#include <weft/ops/norm.h>
#include <weft/ops/random.h>
#include <weft/ops/reduce.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>
#include <weft/ops/sort.h>
#include <weft/tensor/file.h>
#include <weft/tensor/safetensors.h>
#include <weft/tensor/tensor.h>

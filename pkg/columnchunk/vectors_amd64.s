#include "textflag.h"

// Each round adds up four steps. Registers of all functions: DI out, SI the steps beyond the
// least one, CX the numbers left; in all lanes Y0 has the last sum, Y1 the least step, and
// for floats Y6 the float 2^52 + 2^51 and Y7 the units. Y5 is zero, and Y8 has the last sums.

// SUM makes sums of the four steps in Y2: first within each half, then it adds the sum of the
// lower half to the upper one, and the last sum to all. The next round waits for one addition
// only, that of all four steps.
#define SUM \
	VPADDQ   Y1, Y2, Y2 \
	VPSLLDQ  $8, Y2, Y3 \
	VPADDQ   Y3, Y2, Y2 \
	VPERMQ   $0x50, Y2, Y3 \
	VPBLENDD $0x0f, Y5, Y3, Y3 \
	VPADDQ   Y3, Y2, Y2 \
	VPERMQ   $0xff, Y2, Y4 \
	VPADDQ   Y0, Y2, Y2 \
	VPADDQ   Y4, Y0, Y0

// FLOAT turns integers of at most 51 bits into floats and divides them. 2^52 + 2^51 as a float
// has its unit in the lowest bit, so adding an integer to its bits adds it to the float.
#define FLOAT \
	VPADDQ Y6, Y2, Y2 \
	VSUBPD Y6, Y2, Y2 \
	VDIVPD Y7, Y2, Y2

#define BEGIN \
	MOVQ         out+0(FP), DI \
	MOVQ         b+8(FP), SI \
	MOVQ         n+16(FP), CX \
	VPBROADCASTQ v+24(FP), Y0 \
	VPBROADCASTQ least+32(FP), Y1 \
	VPXOR        Y5, Y5, Y5

#define BEGINFLOAT \
	MOVQ         out+0(FP), DI \
	MOVQ         b+8(FP), SI \
	MOVQ         n+16(FP), CX \
	MOVQ         s+24(FP), DX \
	VPBROADCASTQ 0(DX), Y0 \
	VPBROADCASTQ 8(DX), Y1 \
	VBROADCASTSD 16(DX), Y7 \
	VPXOR        Y5, Y5, Y5 \
	MOVQ         $0x4338000000000000, AX \
	VMOVQ        AX, X6 \
	VPBROADCASTQ X6, Y6

// func sum8(out *int64, b *byte, n int, v, least int64)
TEXT ·sum8(SB), NOSPLIT, $0-40
	BEGIN

round:
	VPMOVZXBQ (SI), Y2
	SUM
	VMOVDQU Y2, (DI)
	ADDQ $4, SI
	ADDQ $32, DI
	SUBQ $4, CX
	JNZ  round
	VZEROUPPER
	RET

// func sum16(out *int64, b *byte, n int, v, least int64)
TEXT ·sum16(SB), NOSPLIT, $0-40
	BEGIN

round:
	VPMOVZXWQ (SI), Y2
	SUM
	VMOVDQU Y2, (DI)
	ADDQ $8, SI
	ADDQ $32, DI
	SUBQ $4, CX
	JNZ  round
	VZEROUPPER
	RET

// func sum32(out *int64, b *byte, n int, v, least int64)
TEXT ·sum32(SB), NOSPLIT, $0-40
	BEGIN

round:
	VPMOVZXDQ (SI), Y2
	SUM
	VMOVDQU Y2, (DI)
	ADDQ $16, SI
	ADDQ $32, DI
	SUBQ $4, CX
	JNZ  round
	VZEROUPPER
	RET

// func sumFloat8(out *float64, b *byte, n int, s *vectorState)
TEXT ·sumFloat8(SB), NOSPLIT, $0-32
	BEGINFLOAT

round:
	VPMOVZXBQ (SI), Y2
	SUM
	VMOVDQA Y2, Y8
	FLOAT
	VMOVDQU Y2, (DI)
	ADDQ $4, SI
	ADDQ $32, DI
	SUBQ $4, CX
	JNZ  round
	VMOVDQU Y8, 24(DX)
	VZEROUPPER
	RET

// func sumFloat16(out *float64, b *byte, n int, s *vectorState)
TEXT ·sumFloat16(SB), NOSPLIT, $0-32
	BEGINFLOAT

round:
	VPMOVZXWQ (SI), Y2
	SUM
	VMOVDQA Y2, Y8
	FLOAT
	VMOVDQU Y2, (DI)
	ADDQ $8, SI
	ADDQ $32, DI
	SUBQ $4, CX
	JNZ  round
	VMOVDQU Y8, 24(DX)
	VZEROUPPER
	RET

// func sumFloat32(out *float64, b *byte, n int, s *vectorState)
TEXT ·sumFloat32(SB), NOSPLIT, $0-32
	BEGINFLOAT

round:
	VPMOVZXDQ (SI), Y2
	SUM
	VMOVDQA Y2, Y8
	FLOAT
	VMOVDQU Y2, (DI)
	ADDQ $16, SI
	ADDQ $32, DI
	SUBQ $4, CX
	JNZ  round
	VMOVDQU Y8, 24(DX)
	VZEROUPPER
	RET

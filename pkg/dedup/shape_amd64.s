#include "textflag.h"

// func foldPairs(ts *int64, vs *float64, n int, out *vectors)
//
// Each round looks at the pairs of four samples and those before them. All results stay
// the same when a pair is seen twice, so the last round looks at the last four, of which
// the round before has seen some when n is no multiple of four.
TEXT ·foldPairs(SB), NOSPLIT, $0-32
	MOVQ ts+0(FP), SI
	MOVQ vs+8(FP), DI
	MOVQ n+16(FP), CX
	MOVQ out+24(FP), DX

	VPCMPEQQ     Y0, Y0, Y0
	VPSLLQ       $63, Y0, Y1             // longest: the least number
	VPSRLQ       $1, Y0, Y0              // shortest: the greatest number
	VPXOR        Y2, Y2, Y2              // signs
	VPXOR        Y3, Y3, Y3              // stale
	MOVQ         $0x7ff0000000000002, AX // the bits of value.StaleNaN
	MOVQ         AX, X4
	VPBROADCASTQ X4, Y4

	// R8 is the offset of the samples before those of a round, CX that of the last round.
	SUBQ $4, CX
	SHLQ $3, CX
	XORQ R8, R8

round:
	VMOVDQU   8(SI)(R8*1), Y5
	VPSUBQ    (SI)(R8*1), Y5, Y5 // steps
	VPCMPGTQ  Y5, Y0, Y6         // where shortest > step
	VBLENDVPD Y6, Y5, Y0, Y0
	VPCMPGTQ  Y1, Y5, Y6         // where step > longest
	VBLENDVPD Y6, Y5, Y1, Y1
	VMOVDQU   8(DI)(R8*1), Y7
	VPCMPEQQ  Y4, Y7, Y8
	VPOR      Y8, Y3, Y3
	VPSUBQ    (DI)(R8*1), Y7, Y8 // differences of the bits of values
	VPOR      Y7, Y8, Y8
	VPOR      Y8, Y2, Y2
	CMPQ      R8, CX
	JEQ       done
	ADDQ      $32, R8
	CMPQ      R8, CX
	CMOVQGT   CX, R8
	JMP       round

done:
	VMOVDQU Y0, (DX)
	VMOVDQU Y1, 32(DX)
	VMOVDQU Y2, 64(DX)
	VMOVDQU Y3, 96(DX)
	VZEROUPPER
	RET

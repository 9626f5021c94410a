"""The part of Braintree's GraphQL schema that the simulation understands.

Names and shapes are the published ones; what is not here is refused as a real server refuses a
field that it does not have.
"""

from typing import Final

from graphql import GraphQLSchema, build_schema

_DEFINITIONS: Final = """
scalar Amount
scalar CreditCardNumber
scalar Month
scalar Timestamp
scalar Year

type Query { ping: String! }

type Mutation {
  tokenizeCreditCard(input: TokenizeCreditCardInput!): TokenizeCreditCardPayload
  vaultPaymentMethod(input: VaultPaymentMethodInput!): VaultPaymentMethodPayload
  chargePaymentMethod(input: ChargePaymentMethodInput!): TransactionPayload
  chargeCreditCard(input: ChargeCreditCardInput!): TransactionPayload
  authorizePaymentMethod(input: AuthorizePaymentMethodInput!): TransactionPayload
  authorizeCreditCard(input: AuthorizeCreditCardInput!): TransactionPayload
  captureTransaction(input: CaptureTransactionInput!): TransactionPayload
  refundTransaction(input: RefundTransactionInput!): RefundTransactionPayload
  reverseTransaction(input: ReverseTransactionInput!): ReverseTransactionPayload
  verifyPaymentMethod(input: VerifyPaymentMethodInput!): VerifyPaymentMethodPayload
  verifyCreditCard(input: VerifyCreditCardInput!): VerifyCreditCardPayload
}

# --- what is sent

input AddressInput {
  firstName: String lastName: String company: String streetAddress: String
  extendedAddress: String locality: String region: String postalCode: String countryCode: String
}
input CreditCardInput {
  number: CreditCardNumber expirationMonth: Month expirationYear: Year cvv: String
  cardholderName: String billingAddress: AddressInput
}
input TokenizeCreditCardOptionsInput { validate: Boolean }
input TokenizeCreditCardInput {
  clientMutationId: String creditCard: CreditCardInput! options: TokenizeCreditCardOptionsInput
}
input VaultPaymentMethodVerificationInput { skip: Boolean merchantAccountId: ID amount: Amount }
input VaultPaymentMethodInput {
  clientMutationId: String paymentMethodId: ID! customerId: ID
  verification: VaultPaymentMethodVerificationInput verificationMerchantAccountId: ID
}
input CustomFieldInput { name: String! value: String! }
input TransactionDescriptorInput { name: String phone: String url: String }
input TransactionInput {
  amount: Amount! merchantAccountId: ID customerId: ID orderId: String
  purchaseOrderNumber: String channel: String customFields: [CustomFieldInput!]
  descriptor: TransactionDescriptorInput
}
input ChargePaymentMethodInput {
  clientMutationId: String paymentMethodId: ID! transaction: TransactionInput!
}
input CreditCardTransactionOptionsInput {
  billingAddress: AddressInput merchantAccountId: ID cvv: String
}
input ChargeCreditCardInput {
  clientMutationId: String paymentMethodId: ID! transaction: TransactionInput!
  options: CreditCardTransactionOptionsInput
}
input AuthorizePaymentMethodInput {
  clientMutationId: String paymentMethodId: ID! transaction: TransactionInput!
}
input AuthorizeCreditCardInput {
  clientMutationId: String paymentMethodId: ID! transaction: TransactionInput!
  options: CreditCardTransactionOptionsInput
}
input CaptureTransactionOptionsInput { amount: Amount orderId: String }
input CaptureTransactionInput {
  clientMutationId: String transactionId: ID! transaction: CaptureTransactionOptionsInput
}
input TransactionRefundInput { amount: Amount merchantAccountId: ID orderId: String }
input RefundTransactionInput {
  clientMutationId: String transactionId: ID! refund: TransactionRefundInput
}
input ReverseTransactionInput { clientMutationId: String transactionId: ID! }
input VerifyPaymentMethodInput {
  clientMutationId: String paymentMethodId: ID! merchantAccountId: ID
}
input VerifyCreditCardOptionsInput { amount: Amount merchantAccountId: ID }
input VerifyCreditCardInput {
  clientMutationId: String paymentMethodId: ID! options: VerifyCreditCardOptionsInput
}

# --- what goes back

enum PaymentMethodUsage { SINGLE_USE MULTI_USE }
enum PaymentStatus {
  AUTHORIZED SUBMITTED_FOR_SETTLEMENT SETTLEMENT_PENDING SETTLED VOIDED FAILED
  PROCESSOR_DECLINED GATEWAY_REJECTED
}
enum VerificationStatus { VERIFIED PROCESSOR_DECLINED FAILED }

type MonetaryAmount { value: Amount currencyCode: String currencyIsoCode: String }
type CreditCardDetails {
  brandCode: String last4: String bin: String expirationMonth: Month expirationYear: Year
  cardholderName: String
}
union PaymentMethodDetails = CreditCardDetails
type PaymentMethod {
  id: ID! legacyId: ID usage: PaymentMethodUsage createdAt: Timestamp
  details: PaymentMethodDetails
}
type ProcessorResponse {
  legacyCode: String message: String authorizationId: String cvvResponse: String
}
interface PaymentStatusEvent { status: PaymentStatus timestamp: Timestamp amount: MonetaryAmount }
type AuthorizedEvent implements PaymentStatusEvent {
  status: PaymentStatus timestamp: Timestamp amount: MonetaryAmount
  processorResponse: ProcessorResponse networkTransactionId: String
}
type ProcessorDeclinedEvent implements PaymentStatusEvent {
  status: PaymentStatus timestamp: Timestamp amount: MonetaryAmount
  processorResponse: ProcessorResponse declineType: String
}
type FailedEvent implements PaymentStatusEvent {
  status: PaymentStatus timestamp: Timestamp amount: MonetaryAmount
  processorResponse: ProcessorResponse
}
type GatewayRejectedEvent implements PaymentStatusEvent {
  status: PaymentStatus timestamp: Timestamp amount: MonetaryAmount
  gatewayRejectionReason: String
}
type SubmittedForSettlementEvent implements PaymentStatusEvent {
  status: PaymentStatus timestamp: Timestamp amount: MonetaryAmount
}
type SettledEvent implements PaymentStatusEvent {
  status: PaymentStatus timestamp: Timestamp amount: MonetaryAmount
}
type VoidedEvent implements PaymentStatusEvent {
  status: PaymentStatus timestamp: Timestamp amount: MonetaryAmount
}
type Transaction {
  id: ID! legacyId: ID! createdAt: Timestamp amount: MonetaryAmount orderId: String
  merchantAccountId: ID status: PaymentStatus statusHistory: [PaymentStatusEvent!]
  paymentMethodSnapshot: PaymentMethodDetails
}
type Refund {
  id: ID! legacyId: ID! createdAt: Timestamp amount: MonetaryAmount orderId: String
  merchantAccountId: ID status: PaymentStatus statusHistory: [PaymentStatusEvent!]
  refundedTransaction: Transaction
}
union TransactionReversal = Transaction | Refund
type Verification {
  id: ID! legacyId: ID! status: VerificationStatus amount: MonetaryAmount
  processorResponse: ProcessorResponse createdAt: Timestamp
}

type TokenizeCreditCardPayload {
  clientMutationId: String paymentMethod: PaymentMethod token: ID creditCard: CreditCardDetails
}
type VaultPaymentMethodPayload {
  clientMutationId: String paymentMethod: PaymentMethod verification: Verification
}
type TransactionPayload { clientMutationId: String transaction: Transaction }
type RefundTransactionPayload { clientMutationId: String refund: Refund }
type ReverseTransactionPayload { clientMutationId: String reversal: TransactionReversal }
type VerifyPaymentMethodPayload { clientMutationId: String verification: Verification }
type VerifyCreditCardPayload { clientMutationId: String verification: Verification }
"""

SCHEMA: Final[GraphQLSchema] = build_schema(_DEFINITIONS)

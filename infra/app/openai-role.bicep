// Gives the app the right to call one Azure OpenAI account, new or existing, and returns the endpoint of the account.
import { accountKind } from 'types.bicep'

param accountName string
param kind accountKind
param appPrincipalId string
param assignRole bool

@description('Makes the name of the assignment: another identity must not get the same name.')
param assignmentSeed string

// Cognitive Services OpenAI User; for the models of other publishers Cognitive Services User
var roleId = kind == 'OpenAI' ? '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd' : 'a97b65f3-24c7-4388-baec-2e87135dc908'

resource account 'Microsoft.CognitiveServices/accounts@2025-12-01' existing = {
  name: accountName
}

resource modelUser 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (assignRole) {
  name: guid(account.id, assignmentSeed, roleId)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleId)
  }
}

// An AI Services account returns an address at cognitiveservices.azure.com, which is not documented for /openai/v1.
output endpoint string = kind == 'OpenAI'
  ? account.properties.endpoint
  : 'https://${account.properties.customSubDomainName}.openai.azure.com/'
